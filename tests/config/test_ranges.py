"""Every key of the configuration with values of every sort: one that composes can be used, any other is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imports import ROOT

from pipeline.compose import compose
from pipeline.config import from_dict
from pipeline.errors import PipelineError
from reliability.config import EDGES, KEYS, changed, names_a_key, use

BASES = [compose(ROOT, [f"data={data}"]) for data in ("digits", "cifar10", "imagenette")]
NUMBERS = st.one_of(st.sampled_from(EDGES), st.integers(), st.floats(), st.integers(-3, 300), st.floats(0, 1))
TEXTS = st.one_of(
    st.text(max_size=20), st.sampled_from(["", "1e-3", "1e999", "nan", "~", "\0", "\ud800", "x" * 300, "auto"])
)
SCALARS = st.one_of(NUMBERS, TEXTS, st.booleans(), st.none())
SPACES = st.dictionaries(st.sampled_from(KEYS), st.one_of(st.lists(SCALARS, max_size=3), SCALARS), max_size=2)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), SPACES, st.lists(SPACES, max_size=2))


@given(st.sampled_from(BASES), st.sampled_from(KEYS), VALUES)
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_a_value_composes_and_can_be_used_or_is_refused_by_its_key(base: dict[str, Any], key: str, value: Any):
    try:
        config = from_dict(changed(base, key, value))
    except PipelineError as refusal:
        assert names_a_key(refusal, [key])
    else:
        use(config)


@pytest.mark.parametrize(
    "override",
    [
        *("recipe.momentum=-1", "recipe.momentum=1.0", "recipe.momentum=nan", "recipe.lr=0", "recipe.lr=inf"),
        *("recipe.weight_decay=-1", "recipe.warmup_lr=nan", "recipe.augment.padding=2147483648"),
        *("seed=-1", f"seed={2**70}", "seed=true", "data.split_seed=-1", "data.image_size=0", "data.num_val=-1"),
        *("trainer.threads=100000", "cluster.gpus_per_trial=1.5", "ensemble.size=0", "data.name=" + "x" * 300),
        *("sweep.space={recipe.momentum:[-1]}", "sweep.space={recipe.lr:[high]}", "sweep.space={recipe.lr:[]}"),
        *(
            "sweep.space={recipe.lr:{normal:[0,1]}}",
            "sweep.space={recipe.lr:{uniform:[1,0]}}",
            "sweep.space={recipe.lr:3}",
        ),
        *("sweep.space={recipe.lr:{loguniform:[0,1]}}", "sweep.space={seed:{uniform:[0,9]}}"),
        *("sweep.space=[{recipe.lr:{uniform:[0.2,0.1]}}]", "sweep.space={model:[8]}"),
        "sweep.search={space:{recipe.momentum:[-1]},take:[recipe.momentum]}",
        "recipe.nesterov=true",
    ],
)
def test_values_that_can_never_work_are_refused_by_their_key(override: str):
    with pytest.raises(PipelineError) as refused:
        from_dict(compose(ROOT, ["recipe.momentum=0", override] if "nesterov" in override else [override]))
    assert str(refused.value).startswith(override.partition("=")[0])


SMALL = {"recipe.lr": [0.001, 0.01]}


@pytest.mark.parametrize("text", ["{recipe.lr: [1e-3, 1e-2]}", "{recipe.lr: ['1e-3', .01]}"])
def test_yaml_of_1e_3_is_a_number_wherever_the_key_takes_one(text: str, tmp_path):
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    params = f"set: {{recipe.lr: 1e-3, recipe.max_steps: 3e2, start.weights: '1e-3', sweep.space: {text}}}"
    (tmp_path / "params.yaml").write_text(params)
    config = from_dict(compose(tmp_path, []))
    assert (config.recipe.lr, config.recipe.max_steps, config.start.weights) == (0.001, 300, "1e-3")
    assert config.sweep.space == SMALL and all(type(value) is float for value in config.sweep.space["recipe.lr"])
    on_the_line = from_dict(
        compose(ROOT, [f"sweep.space={text.replace(' ', '')}", "recipe.lr=1e-3", "data.mirror=1e-3"])
    )
    assert (on_the_line.sweep.space, on_the_line.recipe.lr, on_the_line.data.mirror) == (SMALL, 0.001, "1e-3")
    ranged = from_dict(compose(ROOT, ["sweep.space={recipe.lr:{loguniform:['1e-5','1e-3']}}"]))
    assert ranged.sweep.space == {"recipe.lr": {"loguniform": [1e-5, 1e-3]}}


@pytest.mark.parametrize("path", ["~/x.tgz", "/données/x.tgz", "/a b/(c)/x.tgz", "2024", "/画像, & more"])
def test_a_text_on_the_command_line_is_taken_as_it_is(path: str):
    assert from_dict(compose(ROOT, ["data=folder", f"data.path={path}", "data.name=x"])).data.path == path
