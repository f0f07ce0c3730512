from __future__ import annotations

import pytest

from yoloqat.errors import ConfigError, DataError
from yoloqat.sensitivity.settings import ScanConfig


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"mode": "both"}, "mode is 'both'; expected one of leave-one-out, one-at-a-time"),
        ({"granularity": "net"}, "granularity is 'net'; expected one of layer, quantizer, block, group"),
        ({"granularity": "group"}, "granularity is 'group' with 0 groups"),
        ({"groups": ("a=b",)}, "granularity is 'layer' with 1 groups"),
        ({"bits": 1}, "bits of the quantizer under test is 1; expected a whole number from 2 to 16"),
    ],
)
def test_unfit_values_are_refused(values, text):
    with pytest.raises(ConfigError, match=text):
        ScanConfig(**values)


def test_a_metric_that_no_object_counts_for_is_refused(make_scanner):
    with pytest.raises(DataError, match=r"metric is 'map_large' and no object of .* counts for it"):
        make_scanner(metric="map_large")
