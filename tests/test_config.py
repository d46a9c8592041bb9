from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from xrecon.config import MAX_CONFIG_BYTES, Config, known_keys, load_config
from xrecon.errors import ConfigError


class Optimiser(Config):
    learning_rate: float = Field(default=1e-4, gt=0)
    betas: tuple[float, float] = (0.5, 0.99)


class Settings(Config):
    size: int = Field(default=64, ge=8, le=512)
    name: str = "small"
    optimiser: Optimiser = Optimiser()
    extra: Optimiser | None = None


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_then_file_then_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, "size: 96\noptimiser:\n  learning_rate: 2e-3\n")
    loaded = load_config(Settings, path, ["optimiser.betas=[0.9, 0.95]", "name=other", "size=128"])
    assert loaded.size == 128
    assert loaded.name == "other"
    assert loaded.optimiser == Optimiser(learning_rate=2e-3, betas=(0.9, 0.95))
    assert load_config(Settings) == Settings()


def test_settings_cannot_be_changed_later() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_config(Settings).size = 3  # type: ignore[misc]


def test_known_keys_include_sections() -> None:
    keys = list(known_keys(Settings))
    assert "optimiser.learning_rate" in keys
    assert "extra.betas" in keys


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sise: 96\n", r"settings\.yaml: unknown key 'sise'; did you mean 'size'\?"),
        (
            "optimiser: {learning_rat: 1}\n",
            r"unknown key 'optimiser\.learning_rat'; did you mean 'optimiser\.learn",
        ),
        ("optimiser: {zzzzzz: 1}\n", r"unknown key 'optimiser\.zzzzzz'; known keys: optimiser\.learning_rate, optimis"),
        ("learning_rate: 1\n", r"unknown key 'learning_rate'; did you mean '(optimiser|extra)\.learning_rate'\?"),
        ("size: 7\n", r"settings\.yaml: size = 7: input should be greater than or equal to 8"),
        ("optimiser: {learning_rate: .nan}\n", r"optimiser\.learning_rate = nan: "),
        ("size: [1\n", r"settings\.yaml: not valid YAML"),
        ("- 1\n", r"expected 'key: value' lines at the top, got list"),
        ("size: !!python/object/apply:os.getcwd []\n", r"not valid YAML"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load_config(Settings, write(tmp_path, text))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("sise=3", r"--set: unknown key 'sise'; did you mean 'size'\?"),
        ("size=1000", r"--set: size = 1000: input should be less than or equal to 512"),
        ("size", r"--set size: expected key=value"),
        ("=3", r"expected key=value"),
        ("optimiser..betas=3", r"expected key=value"),
        ("name.first=3", r"name is a single value and holds no 'first'"),
        ("size=[1", r"is not valid YAML"),
    ],
)
def test_a_mistake_in_an_override_is_named(tmp_path: Path, override: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load_config(Settings, write(tmp_path, "name: tiny\n"), [override])


def test_several_mistakes_are_all_listed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Settings, write(tmp_path, "size: 7\nnam: x\n"))
    assert len(str(caught.value).splitlines()) == 2


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot read"):
        load_config(Settings, tmp_path / "absent.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(Settings, binary)
    with pytest.raises(ConfigError, match="bytes; a settings file has at most"):
        load_config(Settings, write(tmp_path, "#" * (MAX_CONFIG_BYTES + 1)))
    assert load_config(Settings, write(tmp_path, "")) == Settings()


@settings(deadline=None, max_examples=30)
@given(size=st.integers(8, 512), rate=st.floats(1e-8, 1.0))
def test_an_override_arrives_unchanged(size: int, rate: float) -> None:
    loaded = load_config(Settings, overrides=[f"size={size}", f"optimiser.learning_rate={rate!r}"])
    assert loaded.size == size
    assert loaded.optimiser.learning_rate == rate


@settings(deadline=None, max_examples=50)
@given(text=st.text(max_size=30))
def test_any_override_text_gives_settings_or_a_config_error(text: str) -> None:
    try:
        loaded = load_config(Settings, overrides=[text])
    except ConfigError as error:
        assert "--set" in str(error)
    else:
        assert isinstance(loaded, Settings)
