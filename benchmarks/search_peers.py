"""The peers of `benchmarks/search.py`: DeepMind's mctx with pgx, and OpenSpiel's Python MCTS, each with the very
weights of the network that Escalade searches with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from escalade.domains.base import FloatArray
from escalade.domains.line_game import LineState
from escalade.neural.networks import PolicyValueNetwork

SIMULATIONS = 64


def weights(network: PolicyValueNetwork) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weight `[in, out]` and bias of each layer; the last one has both heads, the value in the last column."""
    layers = [layer for layer in network.trunk if isinstance(layer, torch.nn.Linear)]
    found = [(layer.weight.detach().numpy().T.copy(), layer.bias.detach().numpy().copy()) for layer in layers]
    heads = network.heads()
    joined = np.concatenate([head.weight.detach().numpy() for head in heads]).T.copy()
    return [*found, (joined, np.concatenate([head.bias.detach().numpy() for head in heads]))]


def mctx_search(
    network: PolicyValueNetwork, states: Sequence[LineState], gumbel: bool
) -> tuple[Callable[[], Any], float]:
    """A compiled search of all states by mctx, and the greatest difference between its network and ours.

    The tree carries only what the rules need (board, colour, winner), not pgx's whole state with its observation:
    copying that through the tree costs mctx up to half of its speed.
    """
    import jax
    import jax.numpy as jnp
    import mctx
    from pgx._src.games.connect_four import Game, GameState

    game = Game()
    (first, bias), *rest = weights(network)
    # pgx puts the planes last; so do the weights that read them.
    first = first.reshape(2, 6, 7, -1).transpose(1, 2, 0, 3).reshape(84, -1)
    layers = [(jnp.asarray(w), jnp.asarray(b)) for w, b in [(first, bias), *rest]]

    def estimate(layers: Any, observation: Any) -> Any:
        x = observation.reshape(observation.shape[0], -1).astype(jnp.float32)
        for weight, offset in layers[:-1]:
            x = jax.nn.relu(x @ weight + offset)
        out = x @ layers[-1][0] + layers[-1][1]
        return out[:, :7], jnp.tanh(out[:, 7])

    def packed(state: Any) -> Any:
        return tuple(part.astype(jnp.int8) for part in (state.board, state.color, state.winner))

    def unpacked(node: Any) -> Any:
        board, color, winner = (part.astype(jnp.int32) for part in node)
        return GameState(color=color, board=board, winner=winner)

    def step(node: Any, action: Any) -> Any:
        before = unpacked(node)
        over = game.is_terminal(before)
        after = game.step(before, action)
        reward = jnp.where(over, 0.0, game.rewards(after)[before.color])
        ended = over | game.is_terminal(after)
        kept = jax.tree.map(lambda old, new: jnp.where(over, old, new), before, after)
        return packed(kept), game.observe(after, after.color), game.legal_action_mask(kept), ended, reward

    def recurrent(layers: Any, _key: Any, actions: Any, nodes: Any) -> Any:
        nodes, observation, legal, ended, reward = jax.vmap(step)(nodes, actions)
        logits, value = estimate(layers, observation)
        output = mctx.RecurrentFnOutput(
            reward=reward,
            discount=jnp.where(ended, 0.0, -1.0),
            prior_logits=jnp.where(legal, logits, -1e9),
            value=jnp.where(ended, 0.0, value),
        )
        return output, nodes

    @jax.jit
    def run(layers: Any, key: Any, roots: Any) -> Any:
        observation = jax.vmap(lambda root: game.observe(root, root.color))(roots)
        logits, value = estimate(layers, observation)
        root = mctx.RootFnOutput(prior_logits=logits, value=value, embedding=jax.vmap(packed)(roots))
        invalid = ~jax.vmap(game.legal_action_mask)(roots)
        arguments = (layers, key, root, recurrent, SIMULATIONS)
        if gumbel:
            return mctx.gumbel_muzero_policy(*arguments, invalid_actions=invalid)
        return mctx.muzero_policy(*arguments, invalid_actions=invalid, dirichlet_fraction=0.0, temperature=0.0)

    played = jax.jit(game.step)
    roots = []
    for state in states:
        root = game.init()
        for move in state.moves:
            root = played(root, int(move) - 1)
        roots.append(root)
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *roots)
    observation = jax.vmap(lambda root: game.observe(root, root.color))(stacked)
    theirs = np.asarray(estimate(layers, observation)[0])
    planes = np.ascontiguousarray(np.asarray(observation, np.float32).transpose(0, 3, 1, 2))
    ours, _ = network.evaluate(planes, np.ones((len(states), 7), np.bool_))
    key = jax.random.PRNGKey(0)
    return lambda: run(layers, key, stacked).action.block_until_ready(), float(np.abs(theirs - ours).max())


def open_spiel_search(
    network: PolicyValueNetwork, states: Sequence[LineState], observations: FloatArray
) -> tuple[Callable[[int], Any], float]:
    """OpenSpiel's Python MCTS (PUCT, solver on) of one of the states, and the greatest difference between the boards
    that its network is shown and ours, `[B, 2, 6, 7]`.

    Its evaluator is asked twice about a node, once for the value and once for the priors: the answer is kept, as
    OpenSpiel's own AlphaZero does, so that every simulation costs one call.
    """
    import pyspiel
    from open_spiel.python.algorithms import mcts

    game = pyspiel.load_game("connect_four")
    module = torch.nn.Sequential(*network.trunk)
    policy, value = network.heads()

    def planes(state: Any) -> np.ndarray:
        seen = np.asarray(state.observation_tensor(0), np.float32).reshape(3, 6, 7)[:, ::-1]
        return np.stack([seen[_plane[state.current_player()]], seen[_plane[1 - state.current_player()]]])

    class Estimates(mcts.Evaluator):  # type: ignore[misc]
        def __init__(self) -> None:
            self.known: dict[str, Any] = {}

        def _ask(self, state: Any) -> Any:
            key = state.history_str()
            if key not in self.known:
                with torch.inference_mode():
                    features = module(torch.from_numpy(planes(state)).reshape(1, 84))
                    chances = policy(features).softmax(dim=1)[0].tolist()
                    self.known[key] = (chances, float(value(features).tanh()))
            return self.known[key]

        def evaluate(self, state: Any) -> Any:
            mine = self._ask(state)[1]
            return np.array([mine, -mine]) if state.current_player() == 0 else np.array([-mine, mine])

        def prior(self, state: Any) -> Any:
            chances = self._ask(state)[0]
            legal = state.legal_actions()
            total = sum(chances[action] for action in legal)
            return [(action, chances[action] / total) for action in legal]

    # Which of OpenSpiel's planes shows which player's discs.
    probe = game.new_initial_state()
    probe.apply_action(0)
    shown = np.asarray(probe.observation_tensor(0)).reshape(3, 6, 7)[:, 0, 0]
    _plane = {0: int(shown.argmax()), 1: 1 - int(shown.argmax())}
    roots = [game.new_initial_state() for _ in states]
    for root, state in zip(roots, states, strict=True):
        for move in state.moves:
            root.apply_action(int(move) - 1)
    difference = float(np.abs(np.stack([planes(root) for root in roots]) - observations).max())

    def run(index: int) -> Any:
        bot = mcts.MCTSBot(
            game, 1.5, SIMULATIONS, Estimates(), solve=True, child_selection_fn=mcts.SearchNode.puct_value
        )
        return bot.mcts_search(roots[index])

    return run, difference
