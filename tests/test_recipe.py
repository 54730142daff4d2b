import re

from reid.build import component_module
from reid.experiment import resolve
from reid.recipe import recipe


def test_the_recipe_is_all_that_decides_the_training_but_the_seed(tiny):
    first = recipe(resolve(tiny, "x"))
    assert re.fullmatch("[0-9a-f]{10}", first)
    same = {"title": "other", "seed": 5, "target": [], "evaluation": {"camera_rule": False}, "checkpoints_kept": 1}
    assert recipe(resolve({**tiny, **same}, "y")) == first
    others = [{"validation_pids": 2}, {"image_size": [32, 16]}, {"stage": []}, {"source": []}]
    tables = [{**tiny, **change} for change in others] + [{**tiny, "matcher": {**tiny["matcher"], "dim": 8}}]
    assert len({first, *(recipe(resolve(table, "z")) for table in tables)}) == 6


def test_an_option_that_is_added_later_leaves_the_recipe_as_it_was(tiny, monkeypatch):
    before = recipe(resolve(tiny, "x"))
    module = component_module("matcher", "transmatcher", "a test")

    class Config(module.Config):
        new_option: int = 3

    monkeypatch.setattr(module, "Config", Config)
    now = resolve(tiny, "x")
    assert now.matcher["new_option"] == 3
    assert recipe(now) == before
    assert recipe(resolve({**tiny, "matcher": {**tiny["matcher"], "new_option": 4}}, "x")) != before


def test_of_a_first_stage_only_what_trains_is_part_of_the_recipe(tiny):
    """Folder, length and fusion are not; that there is one is, as results know that were kept before."""
    stages = [{}, {"run": "runs/seed1"}, {"top_k": 7}, {"fusion": "lerp"}, {"share_backbone": True}]
    tables = [{**tiny, "first_stage": {"run": "runs/seed0", **changes}} for changes in stages]
    found = [recipe(resolve(table, "x")) for table in tables]
    assert len(set(found[:4])) == 1
    assert len({recipe(resolve(tiny, "x")), found[0], found[4]}) == 3
