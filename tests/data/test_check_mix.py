"""What check-data says of several data sets that one run shall train on."""

import json

import pytest
from checked_data import write_source

from lclipseg.commands.check_data import main, parse
from lclipseg.console.errors import InputError


@pytest.fixture
def sets(tmp_path):
    """Three sets; "road" is "street" in the second one, and something else in the third."""
    for name, classes in {
        "a": ["sky", "road", "sofa"],
        "b": {"classes": ["street", "Sky", "couch"], "prompts": {"street": "road", "couch": ["sofa", "couch"]}},
        "c": {"classes": ["road", "sea", "boat"], "prompts": {"road": "rail"}},
    }.items():
        write_source(tmp_path / name)
        (tmp_path / name / "classes.json").write_text(json.dumps(classes))
    return tmp_path


def check(folder, *sources, status=0):
    assert main(*parse([*map(str, sources), "--out", str(folder / "out"), "--workers", "1"])) == status
    return json.loads((folder / "out" / "mix.json").read_text())


def test_classes_that_sets_share_are_listed_by_what_each_calls_them(sets):
    found = check(sets, sets / "a", sets / "b", sets / "c")
    assert found["classes"] == 7
    assert found["shared"] == [{"a": "sky", "b": "Sky"}, {"a": "road", "b": "street"}]
    assert found["partly_shared"] == [["sofa", "sofa", "couch"]]
    assert found["renamed"] == ["road (c)"]
    assert found["shares"] == {name: pytest.approx(1 / 3) for name in "abc"}
    assert (sets / "out" / "b" / "data_check.md").is_file()
    assert "| road | street |" in (sets / "out" / "mix.md").read_text()


def test_recipe_stands_for_its_data_with_its_weights(sets):
    (sets / "mix.yaml").write_text(f"data: [{sets / 'a'}, {sets / 'c'}]\ndata_weights: [3, 1]\nsteps: 7\n")
    assert check(sets, sets / "mix.yaml")["shares"] == {"a": 0.75, "c": 0.25}


def test_error_in_any_of_them_counts(sets):
    (sets / "c" / "val" / "masks" / "a.png").unlink()
    check(sets, sets / "a", sets / "c", status=1)


@pytest.mark.parametrize(
    ("content", "message"), [("steps: 7", "names no data to check"), ("data: [A, A]", "two data sets are called 'A'")]
)
def test_recipe_that_is_no_mix_is_an_input_error(tmp_path, content, message):
    (tmp_path / "mix.yaml").write_text(content)
    with pytest.raises(InputError, match=message):
        main(*parse([str(tmp_path / "mix.yaml")]))
