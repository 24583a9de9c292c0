"""The file of prices is read, and its faults are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from escalade.app.prices import ModelPrice, read_prices
from escalade.domains.errors import SettingsError

PRICE = ModelPrice(input_usd_per_mtok=1.0, output_usd_per_mtok=10.0)


def test_prices_are_read(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(
        'compute_usd_per_hour = 0.5\nllm_only = "m"\n[models.m]\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 10.0\n'
    )
    found = read_prices(path)
    assert (found.compute_usd_per_hour, found.models["m"]) == (0.5, PRICE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("compute_usd_per_hour = -1", "compute_usd_per_hour"),
        ("compute_usd_per_hour = nan", "compute_usd_per_hour"),
        ("[models.m]\ninput_usd_per_mtok = 1", "output_usd_per_mtok"),
        ('llm_only = "m"', "llm_only"),
        ("a = ", "not TOML"),
        ("typo = 1", "typo"),
    ],
)
def test_faults_of_the_file_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=said):
        read_prices(path)
