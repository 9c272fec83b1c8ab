"""Reading complete, truncated and invalid metrics files."""

import pytest

from dl_lib.utils.metrics_file import MetricsFileError, Series, read_metrics, thin_out


def test_scalars_are_read_by_name_without_an_incomplete_last_line(tmp_path):
    lines = [
        '{"iteration": 20, "total_loss": 2.5, "lr": 1}',
        '{"iteration": 40, "total_loss": 1.5}',
        '{"iteration": 50, "toy/mIoU": 0.5}',
        '{"iteration": 60, "total_l',
    ]
    (tmp_path / "metrics.json").write_text("\n".join(lines))
    assert read_metrics(tmp_path) == {
        "total_loss": Series((20, 40), (2.5, 1.5)),
        "lr": Series((20,), (1.0,)),
        "toy/mIoU": Series((50,), (0.5,)),
    }


def test_a_complete_last_line_needs_no_line_break(tmp_path):
    (tmp_path / "metrics.json").write_text('{"iteration": 1, "a": 2}')
    assert read_metrics(tmp_path) == {"a": Series((1,), (2.0,))}


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(MetricsFileError, match=r"cannot read metrics.json.*Received: RUN="):
        read_metrics(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no metrics yet"),
        ("[1]\n", "line 1: expected a JSON object"),
        ('{"iteration": 1, "a": 1}\n\0\0', "line 2: expected"),
        ('{"total_loss": 1}\n', "line 1: expected"),
        ('{"iteration": 1, "a": "b"}\n', "line 1: expected"),
        ('{"iteration": 1, "a": NaN}\n', "line 1: expected"),
        ('{"iteration": 1, "a": 1e101}\n', "line 1: expected"),
        ('{"iteration": 1, "a": 1%s}\n' % ("0" * 400), "line 1: expected"),
        ('{"iteration": 9007199254740993, "a": 1}\n', "line 1: expected"),
        ('{"iteration": 0, "a": 1}\n', "line 1: expected a JSON object with a positive integer"),
        ('{"iteration": 1, "a": 1}\nxyz\n', "line 2: expected.*Received: xyz"),
    ],
)
def test_invalid_metrics_files(tmp_path, content, message):
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(MetricsFileError, match=message):
        read_metrics(tmp_path)


def test_a_long_series_keeps_the_extremes_of_each_interval():
    values = [float((7 * at) % 10) for at in range(40)]
    values[13], values[29] = 99.0, -99.0
    series = Series(tuple(range(20, 820, 20)), tuple(values))
    thin = thin_out(series, most=8)
    assert thin.values == (0, 9, 0, 99, 9, -99, 0, 9)
    assert thin.iterations == tuple(
        20 + 20 * values.index(value, 10 * (at // 2)) for at, value in enumerate(thin.values)
    )
    assert thin_out(series, most=40) == series
    constant = Series(series.iterations, (1.0,) * 40)
    assert thin_out(constant, most=8) == Series((20, 220, 420, 620), (1.0,) * 4)
