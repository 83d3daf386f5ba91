"""What pydantic finds wrong, in words."""

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from localemp.utils.validation import format_validation_error


class Row(BaseModel):
    model_config = ConfigDict(extra="forbid")
    about: str
    size: int = 1

    @field_validator("size")
    @classmethod
    def _positive(cls, size: int) -> int:
        if size < 1:
            raise ValueError("must be above 0")
        return size


class Form(BaseModel):
    rows: list[Row]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"rows": [{"about": "x"}, {"size": 2}]}, "rows[2].about: missing key"),
        ({"rows": [{"about": "x", "colour": 1}]}, "rows[1].colour: unknown key"),
        ({"rows": [{"about": "x", "size": 0}]}, "rows[1].size: must be above 0"),
        ({"rows": [{"about": 1}, {"about": "x", "size": "many"}]}, "rows[1].about: no text!; rows[2].size: Input"),
        ([], "Input should be"),
    ],
)
def test_each_mistake_has_its_key(content, said):
    with pytest.raises(ValidationError) as caught:
        Form.model_validate(content)
    assert format_validation_error(caught.value, {("rows[1].about", "string_type"): "no text!"}).startswith(said)


def test_a_file_of_another_kind_has_no_end_of_mistakes():
    with pytest.raises(ValidationError) as caught:
        Form.model_validate({"rows": [{}] * 20})
    told = format_validation_error(caught.value).split("; ")
    assert (len(told), told[-1]) == (6, "and 15 more")


class _Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    penalty: float = 1.0


class _Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    inner: _Inner | None = None
    rows: tuple[_Inner, ...] = ()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"iner": {}}, "iner: unknown key, did you mean 'inner'?"),
        ({"inner": {"penalti": 1}}, "inner.penalti: unknown key, did you mean 'penalty'?"),
        ({"rows": [{}, {"Penalty": 1}]}, "rows[2].Penalty: unknown key, did you mean 'penalty'?"),
        ({"inner": {"xyz": 1}}, "inner.xyz: unknown key"),
    ],
)
def test_an_unknown_key_is_told_with_the_one_that_was_meant(fields, said):
    with pytest.raises(ValidationError) as caught:
        _Outer.model_validate(fields)
    assert format_validation_error(caught.value, form=_Outer) == said
