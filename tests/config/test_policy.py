"""Autoscaling policies whose arguments cannot be checked are errors of the configuration."""

from __future__ import annotations

from serve_app.config.policy import policy_findings


def test_a_class_that_does_not_name_its_arguments_is_a_fault_and_no_traceback() -> None:
    (finding,) = policy_findings({"policy_function": "collections:OrderedDict"})
    assert (finding.path, finding.message) == (
        ("policy_kwargs",),
        "OrderedDict does not say which arguments it takes",
    )
