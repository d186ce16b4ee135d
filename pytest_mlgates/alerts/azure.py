"""The alert rules, action groups and retraining of the settings as files that Azure and Fabric take.

What is exported is the tutorial's wiring: a scheduled-query rule over the workspace's log table, an action group with mail
and webhooks, a Logic App that starts the Fabric pipeline, and that pipeline. Secrets are parameters, never values.
Resource types and API versions: ``Microsoft.Insights/scheduledQueryRules@2023-12-01``, ``Microsoft.Insights/actionGroups@2023-01-01``,
``Microsoft.Logic/workflows@2019-05-01``; the pipeline follows the item definition of Fabric's data pipelines.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pytest_mlgates.errors import UsageProblem

if TYPE_CHECKING:
    from pytest_mlgates.config import ActionGroup, AlertRule, Channel, Settings

_AGGREGATES = {"max": "max", "min": "min", "avg": "avg", "median": "percentile"}
_JOBS = "https://api.fabric.microsoft.com/v1/workspaces/@{parameters('workspaceId')}/items/@{parameters('pipelineId')}/jobs/instances"


def export(settings: Settings) -> dict[str, str]:
    """Return the files by name: ``*.kql`` per rule, ``alerts.bicep``, its parameters, the Logic App and the Fabric pipeline."""
    rules = [level for rule in settings.alerts.rules if rule.enabled for level in levels(rule)]
    _differ("rules", [r.name for r in rules])
    files = {f"rule-{_slug(rule.name)}.kql": kql(rule) for rule in rules}
    groups = {name: group for name, group in settings.alerts.groups.items() if any(r.group == name for r in rules)}
    _differ("action groups", list(groups))
    files["alerts.bicep"] = bicep(rules, groups)
    files["alerts.parameters.json"] = _json(
        {
            "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentParameters.json#",
            "contentVersion": "1.0.0.0",
            "parameters": {
                "workspaceResourceId": {"value": "<Log Analytics workspace resource id>"},
                **{
                    _address_parameter(name, channel): {
                        "reference": {
                            "keyVault": {"id": "<key vault resource id>"},
                            "secretName": _symbol(f"{name} {channel.label}"),
                        }
                    }
                    for name, group in groups.items()
                    for channel in group.channels
                    if channel.kind != "email"
                },
            },
        }
    )
    files["logic-app.json"] = _json(logic_app())
    files["pl_retrain.pipeline-content.json"] = _json(fabric_pipeline())
    return files


def levels(rule: AlertRule) -> list[AlertRule]:
    """Return a rule and, for each severity that it escalates to, a rule of its own: Azure gives a rule one severity."""
    more = [
        rule.model_copy(update={"name": f"{rule.name}-{level}", "severity": level, "threshold": limit, "escalate": {}})
        for level, limit in rule.escalate.items()
    ]
    return [rule, *more]


def kql(rule: AlertRule) -> str:
    """Return a rule as the tutorial's query; its rows are the bins in which the rule breaches."""
    exact = not set("*?[") & set(rule.model)
    model = f"| where ModelName {f'== {_text(rule.model)}' if exact else f'matches regex {_text(_regex(rule.model))}'}"
    what = "percentile(MetricValue, 50)" if rule.aggregate == "median" else f"{_AGGREGATES[rule.aggregate]}(MetricValue)"
    lines = [
        "WorkspaceMonitoring",
        f"| where TableName == {_text(rule.table.rpartition('.')[2])}",
        *([] if rule.model == "*" else [model]),
        f"| where MetricName in ({', '.join(_text(m) for m in rule.metrics)})",
        f"| where Window == {_text(f'{rule.window_days}d')}",
        "| where isfinite(MetricValue)",  # a drift run writes NaN on thin data
        f"| summarize Value = {what} by ModelName, bin(TimeGenerated, {rule.bin_minutes}m)",
        f"| where Value > {rule.threshold!r}",
    ]
    return "\n".join(lines) + "\n"


def bicep(rules: list[AlertRule], groups: dict[str, ActionGroup]) -> str:
    """Return the rules and groups as one Bicep file; addresses and the Logic App's callback are secure parameters."""
    out = [
        "@description('Resource id of the Log Analytics workspace that holds WorkspaceMonitoring')",
        "param workspaceResourceId string",
        "param location string = resourceGroup().location",
        "",
    ]
    for name, group in groups.items():
        out += _group(name, group)
    for rule in rules:
        out += _rule(rule)
    return "\n".join(out)


def _group(name: str, group: ActionGroup) -> list[str]:
    key = _symbol(name)
    mails, hooks, parameters = [], [], []
    for channel in group.channels:
        if channel.kind == "email":
            mails += [_receiver(f"{channel.label}-{i}", f"emailAddress: {_quote(to)}") for i, to in enumerate(channel.to)]
        else:
            parameter = _address_parameter(name, channel)
            parameters += ["@secure()", f"param {parameter} string", ""]
            hooks.append(_receiver(channel.label, f"serviceUri: {parameter}"))
    short = re.sub(r"[^A-Za-z0-9]", "", name)[:12] or "mlgates"
    return [
        *parameters,
        f"resource {key}Group 'Microsoft.Insights/actionGroups@2023-01-01' = {{",
        f"  name: {_quote(name)}",
        "  location: 'Global'",
        "  properties: {",
        f"    groupShortName: {_quote(short)}",
        "    enabled: true",
        *(["    emailReceivers: [", *mails, "    ]"] if mails else []),
        *(["    webhookReceivers: [", *hooks, "    ]"] if hooks else []),
        "  }",
        "}",
        "",
    ]


def _address_parameter(group: str, channel: Channel) -> str:
    """Name of the secure parameter that holds a channel's address."""
    return _symbol(f"{group} {channel.label}") + "Uri"


def _receiver(name: str, address: str) -> str:
    lines = ["      {", f"        name: {_quote(name)}", f"        {address}", "        useCommonAlertSchema: true", "      }"]
    return "\n".join(lines)


def _rule(rule: AlertRule) -> list[str]:
    query = "\n".join(kql(rule).splitlines())
    actions = [f"        {_symbol(rule.group)}Group.id"] if rule.group else []
    return [
        f"resource {_symbol(rule.name)}Rule 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {{",
        f"  name: {_quote(rule.name)}",
        "  location: location",
        "  properties: {",
        f"    severity: {rule.severity.removeprefix('P')}",
        "    enabled: true",
        "    autoMitigate: true",
        "    evaluationFrequency: 'PT5M'",
        f"    windowSize: 'PT{rule.bin_minutes}M'",
        "    scopes: [",
        "      workspaceResourceId",
        "    ]",
        "    criteria: {",
        "      allOf: [",
        "        {",
        f"          query: {_quote(query)}",
        "          timeAggregation: 'Maximum'",
        "          metricMeasureColumn: 'Value'",
        "          operator: 'GreaterThan'",
        f"          threshold: json('{rule.threshold!r}')",
        "          failingPeriods: {",
        f"            numberOfEvaluationPeriods: {rule.sustained}",
        f"            minFailingPeriodsToAlert: {rule.sustained}",
        "          }",
        "          dimensions: [",
        "            {",
        "              name: 'ModelName'",
        "              operator: 'Include'",
        "              values: [",
        "                '*'",
        "              ]",
        "            }",
        "          ]",
        "        }",
        "      ]",
        "    }",
        *(["    actions: {", "      actionGroups: [", *actions, "      ]", "    }"] if actions else []),
        "  }",
        "}",
        "",
    ]


def logic_app() -> dict[str, Any]:
    """Return the tutorial's Logic App: an alert comes in, the Fabric pipeline is started with its id."""
    body = {
        "executionData": {
            "parameters": {"trigger_reason": "drift_alert", "alert_id": "@triggerBody()?['data']?['essentials']?['alertId']"}
        }
    }
    action = {
        "type": "Http",
        "runAfter": {},
        "inputs": {
            "method": "POST",
            "uri": f"{_JOBS}?jobType=Pipeline",
            "headers": {"Content-Type": "application/json"},
            "authentication": {"type": "ManagedServiceIdentity", "audience": "https://api.fabric.microsoft.com"},
            "body": body,
        },
    }
    return {
        "definition": {
            "$schema": "https://schema.management.azure.com/providers/Microsoft.Logic/schemas/2016-06-01/workflowdefinition.json#",
            "contentVersion": "1.0.0.0",
            "parameters": {"workspaceId": {"type": "String"}, "pipelineId": {"type": "String"}},
            "triggers": {"When_Action_Group_fires": {"type": "Request", "kind": "Http", "inputs": {"schema": {}}}},
            "actions": {"Trigger_Retrain_Pipeline": action},
            "outputs": {},
        },
        "parameters": {
            "workspaceId": {"value": "<FABRIC_WORKSPACE_ID>"},
            "pipelineId": {"value": "<id of pl_retrain_slot_revenue>"},
        },
    }


def fabric_pipeline() -> dict[str, Any]:
    """Return the Fabric pipeline: one notebook that retrains, judges and promotes, with the alert's reason and id."""
    parameter = {
        name: {"value": {"value": f"@pipeline().parameters.{name}", "type": "Expression"}, "type": "string"}
        for name in ("trigger_reason", "alert_id")
    }
    activity = {
        "name": "Retrain_judge_promote",
        "type": "TridentNotebook",
        "dependsOn": [],
        "policy": {
            "timeout": "0.00:30:00",
            "retry": 1,
            "retryIntervalInSeconds": 60,
            "secureInput": False,
            "secureOutput": False,
        },
        "typeProperties": {
            "notebookId": "<id of the retrain notebook>",
            "workspaceId": "<FABRIC_WORKSPACE_ID>",
            "parameters": parameter,
        },
    }
    parameters = {
        name: {"type": "string", "defaultValue": default} for name, default in (("trigger_reason", "manual"), ("alert_id", ""))
    }
    return {"properties": {"activities": [activity], "parameters": parameters}}


def _regex(glob: str) -> str:
    """A glob as an RE2 pattern."""
    out = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in glob)
    if "[" in glob:
        raise UsageProblem(f"model {glob!r}: a [set] in a glob has no counterpart in the exported query; use * and ?")
    return f"^{out}$"


def _text(text: str) -> str:
    """A KQL string: verbatim, in double quotes."""
    return '@"' + text.replace('"', '""') + '"' if "\\" in text else json.dumps(text)


def _quote(text: str) -> str:
    """A Bicep string."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${").replace("\n", "\\n")
    return f"'{escaped}'"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)


def _symbol(text: str) -> str:
    words = re.findall(r"[A-Za-z0-9]+", text) or ["x"]
    name = words[0].lower() + "".join(w.capitalize() for w in words[1:])
    return name if name[0].isalpha() else f"x{name}"


def _differ(what: str, names: list[str]) -> None:
    """Refuse names that are one name in Azure, where only letters and digits of a symbol count."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(_symbol(name).lower(), name)
        if other != name:
            raise UsageProblem(f"{what} {other!r} and {name!r} get the same name in the exported files; rename one")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"
