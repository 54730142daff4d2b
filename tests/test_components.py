"""What holds for every file of every kind of component, and for every experiment that comes with reid."""

import ast
import inspect
import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from reid.build import Kind, component_module, component_names
from reid.config import Config
from reid.experiment import read_experiment
from reid.protocols._base import Protocol

ROOT = Path(__file__).parent.parent
COMPONENTS = [(kind, name) for kind in get_args(Kind) for name in component_names(kind)]
WITH_CONFIG = [(kind, name) for kind, name in COMPONENTS if kind != "protocol"]
EXPERIMENTS = sorted(path for path in (ROOT / "experiments").glob("*.toml") if path.name != "published.toml")
SOURCED = r"\bSources?:|\bsource=|\bOurs?\b|\bour own\b|\bpaper="  # states its source, or that it is ours


def file_of(kind, name):
    return Path(component_module(kind, name, "a test").__file__)


def test_every_kind_has_components():
    assert {kind for kind, _ in COMPONENTS} == set(get_args(Kind))


@pytest.mark.parametrize(("kind", "name"), WITH_CONFIG)
def test_config_is_named_as_its_file(kind, name):
    model = component_module(kind, name, "a test").Config
    assert issubclass(model, Config)
    home = component_module(kind, name, "a test").__name__  # its file, or its folder, which may have a file for it
    assert model.__module__ in (home, f"{home}._config", f"{home.rpartition('.')[0]}._{name}_config")
    assert get_args(model.model_fields["name"].annotation) == (name,)
    assert model.model_fields["name"].default == name
    own = [field for field in model.model_fields if field in model.__annotations__]
    assert own[0] == "name"


@pytest.mark.parametrize(("kind", "name"), WITH_CONFIG)
def test_defaults_validate(kind, name):
    model = component_module(kind, name, "a test").Config
    required = [field for field, info in model.model_fields.items() if info.is_required()]
    if not required:
        assert model.model_validate({"name": name}) == model()
    with pytest.raises(ValidationError):
        model.model_validate({"name": name, "no_such_key": 1})


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_the_last_line_is_the_component(kind, name):
    tree = ast.parse(file_of(kind, name).read_text(encoding="utf-8"))
    last = tree.body[-1]
    assert isinstance(last, ast.Assign)
    assert [target.id for target in last.targets] == ["COMPONENT"]


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_the_docstring_names_the_source(kind, name):
    module = component_module(kind, name, "a test")
    component = module.COMPONENT
    if isinstance(component, Protocol):
        assert module.__doc__
        assert component.source
        return
    said = f"{module.__doc__}\n{inspect.getdoc(component)}"
    if kind == "dataset":
        said += f"\npaper={component.info.paper}"
    assert re.search(SOURCED, said, re.IGNORECASE), said


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_there_is_a_test_file_at_the_mirrored_path(kind, name):
    file = file_of(kind, name)
    if file.name == "__init__.py":
        tests = ROOT / "tests" / file.parent.relative_to(ROOT / "reid")
        assert list(tests.glob("test_*.py"))
    else:
        own = file.relative_to(ROOT / "reid")
        assert (ROOT / "tests" / own.parent / f"test_{own.name}").is_file()


def test_there_are_experiments():
    assert EXPERIMENTS


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_are_short_and_valid(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 40
    experiment = read_experiment(path)
    sources = [component_module("dataset", table["name"], "a test").Config(**table) for table in experiment.source]
    targets = [component_module("dataset", table["name"], "a test").Config(**table) for table in experiment.target]
    assert sources or not experiment.stage
    assert targets
    for source in sources:
        for target in targets:
            if source.name == target.name:  # in-domain: fair only where the training split alone is trained on
                assert getattr(source, "train", "train") != "all", f"{source.name} is trained on and tested"
