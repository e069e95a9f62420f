"""The alerts of the chart: each fires on its fault and is silent otherwise, as promtool reads them.

One installation, "b", is well in every case: what is wrong in "a" is neither hidden by it nor told of it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "helm" / "sip-pbx" / "rules.yaml"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for rule in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
}
MINUTES = 90
A = 'namespace="a", pod="p1"'
OTHER = 'namespace="b", pod="p1"'


@dataclass(frozen=True, slots=True)
class Fault:
    """Series of a fault (name and labels, values in promtool's notation), and the same of a system that is well."""

    bad: dict[str, str]
    well: dict[str, str]


def flat(value: float) -> str:
    return f"{value}x{MINUTES}"


def grows(by: float) -> str:
    return f"0+{by}x{MINUTES}"


def of(name: str, bad: str, well: str, more: str = "") -> Fault:
    """One series that is bad in "a"; well in the other case, and in "b" always."""
    extra = f", {more}" if more else ""
    series = f"{name}{{{A}{extra}}}"
    beside = {f"{name}{{{OTHER}{extra}}}": well}
    return Fault({series: bad} | beside, {series: well} | beside)


def operator(name: str, bad: float, well: float, more: str = "") -> Fault:
    """A leader's gauge; a former leader beside it still shows the fault of before."""
    extra = f", {more}" if more else ""
    former = 'namespace="a", pod="old"'
    beside = {
        f"pbx_operator_leader{{{A}}}": flat(1),
        f"pbx_operator_leader{{{former}}}": flat(0),
        f'pbx_operator_relays_wanted{{{A}, pool="default"}}': flat(2),
        f'pbx_operator_relays_wanted{{{former}, pool="default"}}': flat(2),
    }
    series, stale = f'{name}{{{A}, pool="default"{extra}}}', f'{name}{{{former}, pool="default"{extra}}}'
    return Fault(beside | {series: flat(bad), stale: flat(well)}, beside | {series: flat(well), stale: flat(bad)})


def calls(outcome: str, share_bad: float, share_well: float) -> Fault:
    name = "pbx_signaling_calls_ended_total"
    rest = "answered" if outcome != "answered" else "busy"

    def both(share: float) -> dict[str, str]:
        return {
            f'{name}{{{A}, outcome="{outcome}"}}': grows(60 * share),
            f'{name}{{{A}, outcome="{rest}"}}': grows(60 * (1 - share)),
        }

    return Fault(both(share_bad), both(share_well))


def slow(name: str, bound: str, below: str) -> Fault:
    """A histogram of which a third is between `below` and `bound`; of the good one, nothing."""

    def series(labels: str, quick: float) -> dict[str, str]:
        buckets = {below: quick, bound: 60, "+Inf": 60}
        return {f'{name}_bucket{{{labels}, le="{le}"}}': grows(by) for le, by in buckets.items()} | {
            f"{name}_count{{{labels}}}": grows(60)
        }

    return Fault(series(A, 40) | series(OTHER, 60), series(A, 60) | series(OTHER, 60))


REGISTRARS = {f"pbx_registrar_registrations{{{labels}}}": flat(3) for labels in (A, OTHER)}

FAULTS: dict[str, Fault] = {
    "PbxDown": Fault(
        {f"up{{{A}}}": "1x60 0x30", f"pbx_ready{{{A}}}": "1x60 _x30", 'up{namespace="x", pod="else"}': flat(0)},
        {f"up{{{A}}}": flat(1), f"pbx_ready{{{A}}}": flat(1), 'up{namespace="x", pod="else"}': flat(0)},
    ),
    "PbxCheckFailing": of("pbx_health_check", flat(0), flat(1), 'check="redis"'),
    "PbxNoSlotsFree": operator("pbx_operator_slots_free", 0, 100),
    "PbxSlotsRunningOut": Fault(
        {
            f'pbx_relay_slots{{{A}, state="free"}}': flat(10),
            f'pbx_relay_slots{{{A}, state="total"}}': flat(100),
            f'pbx_relay_slots{{{OTHER}, state="free"}}': flat(1000),
            f'pbx_relay_slots{{{OTHER}, state="total"}}': flat(1000),
        },
        {f'pbx_relay_slots{{{A}, state="free"}}': flat(90), f'pbx_relay_slots{{{A}, state="total"}}': flat(100)},
    ),
    "PbxSlotsBroken": of("pbx_relay_slots", flat(2), flat(0), 'state="broken"'),
    "PbxRelaysMissing": operator("pbx_operator_relays", 1, 2, 'state="ready"'),
    "PbxRelaySilent": operator("pbx_operator_relays_silent", 1, 0),
    "PbxOperatorLeaderless": of("pbx_operator_leader", flat(0), flat(1)),
    "PbxOperatorFailing": of("pbx_operator_failures_total", grows(60), grows(1), 'what="patch"'),
    "PbxSignalingDown": Fault(
        {
            f"pbx_signaling_calls_active{{{A}}}": "1x30 _x60",
            **REGISTRARS,
            f"pbx_signaling_calls_active{{{OTHER}}}": flat(0),
        },
        {
            f"pbx_signaling_calls_active{{{A}}}": flat(0),
            **REGISTRARS,
            f"pbx_signaling_calls_active{{{OTHER}}}": flat(0),
        },
    ),
    "PbxCallsRefused": calls("failed", 0.5, 0.01),
    "PbxFewAnswered": calls("answered", 0.1, 0.6),
    "PbxRegistrationsFalling": of("pbx_registrar_registrations", "100x80 10x10", flat(100)),
    "PbxAuthenticationFailures": Fault(
        {f'pbx_registrar_authentications_total{{{A}, verdict="rejected"}}': grows(1200)},
        {  # a nonce that ran out is no failure
            f'pbx_registrar_authentications_total{{{A}, verdict="rejected"}}': grows(60),
            f'pbx_registrar_authentications_total{{{A}, verdict="stale"}}': grows(6000),
        },
    ),
    "PbxCertificateEnds": of("pbx_signaling_certificate_not_after_seconds", flat(86400), flat(30 * 86400)),
    "PbxPostDialDelay": slow("pbx_signaling_ringing_seconds", bound="5.0", below="0.5"),
    "PbxLoopLag": slow("pbx_loop_lag_seconds", bound="0.25", below="0.01"),
    "PbxRecordingsCut": of("pbx_relay_recordings_cut_total", grows(1), flat(4)),
    "PbxEventsNotWritten": of("pbx_signaling_journal_backlog", flat(2000), flat(3)),
    "PbxEventsNotRead": of("pbx_events_reader", flat(0), flat(1)),
    "PbxOutboxOld": of("pbx_events_outbox_age_seconds", flat(600), flat(0)),
    "PbxMediaFiguresMissing": of("pbx_events_media_missing_total", grows(10), flat(40)),
    "PbxWebhooksFailing": Fault(
        {
            f'pbx_events_delivery_failures_total{{{A}, webhook="dead"}}': grows(1),
            f'pbx_events_delivered_total{{{A}, webhook="dead"}}': flat(5),
            f'pbx_events_delivered_total{{{A}, webhook="good"}}': grows(6000),
        },
        {
            f'pbx_events_delivery_failures_total{{{A}, webhook="dead"}}': grows(1),
            f'pbx_events_delivered_total{{{A}, webhook="dead"}}': grows(60),
        },
    ),
    "PbxDeadLetters": of("pbx_events_dead_letters_total", grows(1), flat(7), 'webhook="w1"'),
    "PbxExportBehind": of("pbx_events_export_backlog", flat(5000), flat(10), 'sink="http"'),
    "PbxRedisFilling": Fault(
        {f"pbx_events_redis_memory_bytes{{{A}}}": flat(90), f"pbx_events_redis_memory_max_bytes{{{A}}}": flat(100)},
        {f"pbx_events_redis_memory_bytes{{{A}}}": flat(90), f"pbx_events_redis_memory_max_bytes{{{A}}}": flat(0)},
    ),
    "PbxVolumeFilling": Fault(
        {
            'kubelet_volume_stats_available_bytes{namespace="a", persistentvolumeclaim="pbx-redis"}': flat(5),
            'kubelet_volume_stats_capacity_bytes{namespace="a", persistentvolumeclaim="pbx-redis"}': flat(100),
        },
        {
            'kubelet_volume_stats_available_bytes{namespace="a", persistentvolumeclaim="pbx-redis"}': flat(50),
            'kubelet_volume_stats_capacity_bytes{namespace="a", persistentvolumeclaim="pbx-redis"}': flat(100),
        },
    ),
    "PbxRestarting": of("kube_pod_container_status_restarts_total", grows(0.2), flat(3), 'container="signaling"'),
    "PbxMediaLoss": Fault(
        {
            f"pbx_relay_packets_missing_total{{{A}}}": grows(300),
            f"pbx_relay_packets_late_total{{{A}}}": grows(3),
            f'pbx_relay_packets_total{{{A}, kind="rtp"}}': grows(3000),
        },
        {
            f"pbx_relay_packets_missing_total{{{A}}}": grows(300),  # reordered is not lost
            f"pbx_relay_packets_late_total{{{A}}}": grows(297),
            f'pbx_relay_packets_total{{{A}, kind="rtp"}}': grows(3000),
        },
    ),
}


def run_promtool(tmp_path: Path, series: dict[str, str], alert: str, fires: bool) -> str:
    """What promtool says of "does it fire in namespace a, and nowhere else"; empty where it is as asked."""
    shutil.copyfile(RULES, tmp_path / "rules.yaml")
    of_alert = f'ALERTS{{alertname="{alert}"'
    body = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f'count({of_alert}, alertstate="firing", namespace!="b"}}) or vector(0)',
                        "eval_time": f"{MINUTES - 1}m",
                        "exp_samples": [{"labels": "{}", "value": int(fires)}],
                    },
                    {
                        "expr": f'count({of_alert}, namespace="b"}}) or vector(0)',
                        "eval_time": f"{MINUTES - 1}m",
                        "exp_samples": [{"labels": "{}", "value": 0}],
                    },
                ],
            }
        ],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(body), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


@needs_promtool
@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_fires_on_its_fault_and_is_silent_otherwise(alert: str, tmp_path: Path) -> None:
    fault = FAULTS[alert]
    assert run_promtool(tmp_path, fault.bad, alert, fires=True) == ""
    assert run_promtool(tmp_path, fault.well, alert, fires=False) == ""


@needs_promtool
def test_an_installation_of_which_nothing_is_scraped_is_told_of(tmp_path: Path) -> None:
    assert run_promtool(tmp_path, {f"up{{{A}}}": "1x90"}, "PbxSignalingDown", fires=True) == ""


def test_every_alert_has_a_fault_a_severity_and_a_runbook() -> None:
    assert FAULTS.keys() == ALERTS.keys()
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    anchors = {
        re.sub(r"[^a-z0-9-]", "", title.lower().replace(" ", "-")) for title in re.findall(r"^### (.+)$", text, re.M)
    }
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert rule["annotations"]["runbook_url"].removeprefix("RUNBOOK#") in anchors, name
        assert rule["annotations"]["summary"], name


@needs_promtool
def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "path", sorted((ROOT / "helm" / "sip-pbx" / "dashboards").glob("*.json")), ids=lambda p: p.stem
)
def test_a_dashboard_is_of_the_namespaces_and_pods_that_were_chosen(path: Path) -> None:
    board = json.loads(path.read_text(encoding="utf-8"))
    assert [each["name"] for each in board["templating"]["list"]] == ["datasource", "namespace", "pod"]
    assert any("#runbook" in link["url"] for link in board["links"])
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert expressions
    for expression in expressions:
        series = re.findall(r"\b(?:pbx|process)_[a-z_]+(\{[^}]*\})?", expression)
        assert all(labels.startswith('{namespace=~"$namespace", pod=~"$pod"') for labels in series), expression
        assert "sum(pbx_registrar_registrations" not in expression, "every replica tells the number of all"
