"""The laws of what a domain says of its states in words. Written as those of `domains/conformance_laws.py`."""

from __future__ import annotations

from escalade.domains.conformance_probe import Cases, LawBroken, LawSkipped, Probe, fresh, short, told


def describes(probe: Probe) -> Cases:
    for state in probe.states():
        text = probe.ask("describe", fresh(state))
        if not isinstance(text, str) or not text.strip():
            raise LawBroken(f"{probe.call('describe', state)} is {short(text)}; tell how things stand in words")
        yield
    return None


def shows_notation(probe: Probe) -> Cases:
    """Each example is offered to `parse`, as whoever copies it would."""
    notation = probe.ask("notation")
    if not isinstance(notation, str):
        raise LawBroken(f"notation() is {short(notation)}; give a sentence on how states are written, or ''")
    examples = probe.ask("examples")
    if not isinstance(examples, (tuple, list)) or not all(isinstance(text, str) for text in examples):
        raise LawBroken(f"examples() is {short(examples)}; give a tuple of texts of states")
    for text in examples:
        try:
            state = probe.dare("parse", text)
        except Exception as error:
            raise LawBroken(f"examples() holds {short(text)}, but parse raised {told(error)}; show states") from error
        if probe.ask("is_terminal", fresh(state)):
            raise LawBroken(f"examples() holds {short(text)}, which is finished; show states that can be decided")
        yield
    if not examples:
        raise LawSkipped("the domain gives no examples of its notation")
    return None
