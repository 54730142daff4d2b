import pytest
from typer.testing import CliRunner

from benchmarks import pages
from reid import reference
from reid.build import component_names
from reid.cli import app
from reid.errors import ConfigError


def test_the_page_is_the_generated_one():
    assert pages.KEYS_PAGE.read_text(encoding="utf-8") == reference.page(), "run: make tables"


def test_every_key_says_what_it_means():
    silent = [f"{table.place}: {key.name}" for table in reference.tables() for key in table.keys if not key.meaning]
    assert not silent


def test_every_component_is_there():
    places = {table.place for table in reference.tables()}
    assert {f"matcher.{name}" for name in component_names("matcher")} <= places
    assert {"experiment", "stage", "stage.schedule.cosine", "stage.views.warps", "matcher.roma.refiners"} <= places
    assert len(places) == len(reference.tables())


def test_tables_are_found_by_their_place():
    assert [table.place for table in reference.find_tables("matcher.roma")] == ["matcher.roma", "matcher.roma.refiners"]
    with pytest.raises(ConfigError, match=r"no table named 'matchers'. Did you mean 'matcher'\?"):
        reference.find_tables("matchers")


def test_the_verb():
    overview = CliRunner().invoke(app, ["keys"])
    assert overview.exit_code == 0
    assert "matcher.qaconv" in overview.output
    one = CliRunner().invoke(app, ["keys", "stage.optimizer"])
    assert "backbone_lr_factor" in one.output
    assert "stage.augment" not in one.output
