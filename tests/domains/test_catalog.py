from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points

import pytest

from escalade.domains import catalog
from escalade.domains.catalog import domain_class, domain_names, load_domain
from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import CatalogError
from escalade.domains.intents import Intents
from escalade.domains.tic_tac_toe import TicTacToe

SOURCES = {
    "coin": """
from escalade.domains.base import Domain

class Coin(Domain[str]):
    name, num_actions, observation_shape, has_simulator = "coin", 2, (1,), False

    def __init__(self, sides: int = 2, *, weight: float = 1.0) -> None:
        if sides != 2:
            raise RuntimeError(f"no coin has {sides} sides")

    def parse(self, source): return str(source)
    def format(self, state): return state
    def legal_actions(self, state): return [0, 1]
    def encode(self, states): raise NotImplementedError

class Sizeless(Coin):
    num_actions = property()

class Half(Domain[str]):
    name = "half"

class Foreign:
    name, num_actions, observation_shape = "foreign", 1, (1,)

made = Coin()
""",
    "breaks": "1 / 0",
    "odd": "def (",
    "asks": "import no_such_module_anywhere",
    "values": "raise ValueError('two\\nlines')",
    "lacks": "import sys; sys.no_such_attribute",
    "leaves": "import sys; sys.exit('usage: leaves FILE')",
}


@pytest.fixture
def user_modules(tmp_path, monkeypatch) -> Iterator[None]:
    """Modules of a user, importable by name."""
    for name, source in SOURCES.items():
        (tmp_path / f"user_{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in SOURCES:
        sys.modules.pop(f"user_{name}", None)


def test_the_package_declares_its_domains_as_entry_points():
    assert {"connect_four", "intents", "tic_tac_toe"} <= set(domain_names())
    assert domain_names() == sorted(domain_names())
    found = {point.name: point.load() for point in entry_points(group="escalade.domains")}
    assert found["tic_tac_toe"] is TicTacToe
    assert domain_class("connect_four") is ConnectFour
    assert domain_class("intents") is Intents


def test_every_installed_name_is_the_name_of_its_domain():
    options = {"intents": {"labels": ["a", "b"]}}
    for name in ("connect_four", "intents", "tic_tac_toe"):
        assert load_domain(name, options.get(name)).name == name


def test_a_class_of_ones_own_by_module_and_name(user_modules):
    assert load_domain("user_coin:Coin").name == "coin"
    assert load_domain("user_coin:Coin", {"weight": 0.5}).num_actions == 2
    assert type(load_domain("escalade.domains.tic_tac_toe:TicTacToe")) is TicTacToe


def test_options_reach_the_domain(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(["x", "y", "z"]))
    assert load_domain("intents", {"labels": str(path)}).num_actions == 3


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("", None, "no domain named ''"),
        ("chess", None, "no domain named 'chess': choose one of connect_four, intents, tic_tac_toe, or name your own"),
        ("tic tac", None, "no domain named"),
        (None, None, "named by a text, not NoneType"),
        (7, None, "named by a text, not int"),
        (":", None, "not of the form module:Class"),
        ("user_coin:", None, "not of the form module:Class"),
        (":Coin", None, "not of the form module:Class"),
        (".coin:Coin", None, "not of the form module:Class"),
        ("user coin:Coin", None, "not of the form module:Class"),
        ("user_coin:made.x", None, "not of the form module:Class"),
        ("user_none:Coin", None, "cannot be imported: No module named 'user_none'"),
        ("user_coin:Dice", None, "module 'user_coin' has no 'Dice'"),
        ("user_coin:made", None, "is not a callable object"),
        ("user_coin:Half", None, "cannot be built: TypeError: Can't instantiate abstract class Half"),
        ("user_coin:Foreign", None, "does not inherit from escalade.Domain"),
        ("user_coin:Sizeless", None, "it lacks num_actions"),
        ("user_coin:Coin", {"sides": 3}, "cannot be built: RuntimeError: no coin has 3 sides"),
        ("user_coin:Coin", {"size": 3}, "cannot be built with options size: got an unexpected keyword argument 'size'"),
        ("user_coin:Coin", ["sides"], "options are names with values, not list"),
        ("user_coin:Coin", {3: 3}, "cannot be built with options 3"),
        ("tic_tac_toe", {"labels": "x"}, "cannot be built with options labels"),
        ("intents", None, "needs its labels: give the option labels=FILE"),
        ("intents", {"labels": "nowhere.csv"}, "'nowhere.csv' cannot be read"),
        ("json:loads", None, "cannot be built without options: missing a required argument"),
        ("json:JSONDecoder", None, "it lacks name, num_actions, observation_shape"),
        ("user_breaks:X", None, "cannot be imported: ZeroDivisionError: division by zero"),
        ("user_odd:X", None, "cannot be imported: SyntaxError"),
        ("user_asks:X", None, "cannot be imported: No module named 'no_such_module_anywhere'"),
        ("user_values:X", None, "cannot be imported: ValueError: two lines"),
        ("user_lacks:X", None, "cannot be imported: AttributeError"),
        ("user_leaves:X", None, "cannot be imported: SystemExit: usage: leaves FILE"),
    ],
)
def test_what_cannot_be_loaded_is_told_in_one_line(user_modules, name, options, words):
    with pytest.raises(CatalogError, match=words) as refused:
        load_domain(name, options)
    assert "\n" not in str(refused.value)


def test_a_failure_in_ones_own_code_keeps_its_cause(user_modules):
    with pytest.raises(CatalogError) as refused:
        load_domain("user_breaks:X")
    assert isinstance(refused.value.__cause__, ZeroDivisionError)


def test_two_installed_domains_of_one_name_are_not_chosen_between(tmp_path, monkeypatch):
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[escalade.domains]\ntic_tac_toe = other:Game\nbroken = no_such_module:Game\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "broken" in domain_names()
    with pytest.raises(CatalogError, match="more than one installed domain is named 'tic_tac_toe': choose one of"):
        load_domain("tic_tac_toe")
    with pytest.raises(CatalogError, match=r"domain 'broken' \(no_such_module:Game\) cannot be imported"):
        load_domain("broken")
    assert catalog.domain_class("escalade.domains.tic_tac_toe:TicTacToe") is TicTacToe
