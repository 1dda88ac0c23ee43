#!/usr/bin/env python3
"""Lints the chart and renders it with values as users set them; every document must be YAML of the expected kinds, wired to each other.

usage: check.py CHART_DIR; exits 1 with a line for each fault.
"""
import sys

import helm_python as helm
import yaml

CHART = sys.argv[1]
CASES = {
    "defaults": {},
    "no gateway": {"gateway": {"enabled": False}},
    "no service account": {"serviceAccount": {"create": False}},
    "everything set": {
        "image": {"repository": "registry.local/tollkeeper", "tag": "9.9.9", "pullPolicy": "Always"},
        "imagePullSecrets": [{"name": "pull"}],
        "portal": {
            "mail": {"existingSecret": "smtp"},
            "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "cert", "annotations": {"a": "b"}},
            "service": {"annotations": {"a": "b"}},
        },
        "monitoring": {"enabled": True, "interval": "30s", "labels": {"release": "prometheus"}},
        "gateway": {
            "cores": 4,
            "journal": {"storageClassName": "fast", "durability": "power"},
            "drainSeconds": 60,
            "tls": {"secrets": ["api-cert", "other-cert"]},
            "proxyProtocolFrom": ["10.0.0.0/8", "fd00::/8"],
            "trustedProxyHops": 1,
            "settings": {"GATEWAY_ACCESS_LOG": "errors", "GATEWAY_MAX_CONNECTIONS": 1000},
        },
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "podAnnotations": {"a": "b"},
    },
}
REFUSED = {
    "an unknown value": {"portall": {}},
    "a port out of range": {"portal": {"service": {"port": 70000}}},
    "a gateway's setting of another name": {"gateway": {"settings": {"PORTAL_LOG": "debug"}}},
    "a balancer's address that is no network": {"gateway": {"proxyProtocolFrom": ["10.0.0.1"]}},
    "a durability of another name": {"gateway": {"journal": {"durability": "forever"}}},
    "a URL without a scheme": {"portal": {"publicUrl": "portal.example.com"}},
}
faults = []


def expect(condition, message):
    if not condition:
        faults.append(message)


def documents(values):
    with helm.Chart.load(CHART) as chart:
        rendered = chart.render(values=values, name="demo", namespace="apis")
    texts = [text for name, text in rendered.items() if not name.endswith("NOTES.txt")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def check_case(name, values):
    docs = documents(values)
    kinds = sorted(d["kind"] for d in docs)
    gateway = values.get("gateway", {}).get("enabled", True)
    expect("Job" in kinds and kinds.count("Deployment") == 2, f"{name}: portal, worker or migrate job is missing: {kinds}")
    expect(("StatefulSet" in kinds) == gateway, f"{name}: StatefulSet where gateway.enabled={gateway}: {kinds}")
    expect(("Ingress" in kinds) == bool(values.get("portal", {}).get("ingress")), f"{name}: ingress: {kinds}")
    pods = [d for d in docs if d["kind"] in ("Deployment", "StatefulSet", "Job")]
    for doc in pods:
        spec, where = doc["spec"]["template"]["spec"], f"{name}: {doc['metadata']['name']}"
        expect(spec["securityContext"]["runAsNonRoot"], f"{where}: may run as root")
        container = spec["containers"][0]
        expect(container["securityContext"]["readOnlyRootFilesystem"], f"{where}: writable root file system")
        image = "registry.local/tollkeeper:9.9.9" if "image" in values else "tollkeeper:0.1.0"
        expect(container["image"] == image, f"{where}: image is {container['image']}")
        names = [variable["name"] for variable in container["env"]]
        expect(len(names) == len(set(names)), f"{where}: a variable is set twice")
        expect(all(v.get("value") != "" for v in container["env"]), f"{where}: an empty variable")
    monitors = [d for d in docs if d["kind"] in ("ServiceMonitor", "PodMonitor", "PrometheusRule")]
    wanted = (5 if gateway else 3) if values.get("monitoring", {}).get("enabled") else 0
    expect(len(monitors) == wanted, f"{name}: {len(monitors)} objects of the Prometheus Operator, not {wanted}")
    for rule in (d for d in monitors if d["kind"] == "PrometheusRule"):
        expect(all(r["alert"] and r["expr"] for g in rule["spec"]["groups"] for r in g["rules"]), f"{name}: the alert rules are not whole")
    for monitor in (d for d in monitors if d["kind"] == "PodMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"].items()
        watched = [d["spec"]["template"]["spec"]["containers"][0]["ports"] for d in pods if selector <= d["spec"]["template"]["metadata"]["labels"].items()]
        expect(len(watched) == 1 and "metrics" in [p["name"] for p in watched[0]], f"{name}: {monitor['metadata']['name']} finds {watched}")
    for monitor in (d for d in monitors if d["kind"] == "ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"].items()
        ports = [p["name"] for d in docs if d["kind"] == "Service" and selector <= d["metadata"]["labels"].items() for p in d["spec"]["ports"]]
        expect(ports.count("admin") == 1, f"{name}: the ServiceMonitor finds {ports}")
    for service in (d for d in docs if d["kind"] == "Service"):
        selector = service["spec"]["selector"].items()
        targets = [p for p in pods if selector <= p["spec"]["template"]["metadata"]["labels"].items()]
        ports = {port["name"] for p in targets for port in p["spec"]["template"]["spec"]["containers"][0].get("ports", [])}
        wanted = {port["targetPort"] for port in service["spec"]["ports"]}
        expect(len(targets) == 1 and wanted <= ports, f"{name}: {service['metadata']['name']} reaches {len(targets)} workloads with ports {ports}")
    for doc in (d for d in docs if d["kind"] == "StatefulSet"):
        claims = {c["metadata"]["name"] for c in doc["spec"]["volumeClaimTemplates"]}
        mounts = {m["name"] for m in doc["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]}
        secrets = {f"tls-{secret}" for secret in values.get("gateway", {}).get("tls", {}).get("secrets", [])}
        volumes = {v["name"] for v in doc["spec"]["template"]["spec"].get("volumes", [])}
        expect(claims == {"journal"} and mounts == {"journal"} | secrets, f"{name}: the journal is not on a volume of its own, or certificates are missing")
        expect(secrets <= volumes, f"{name}: volumes {volumes} lack certificates")
        https = [p for d in docs if d["kind"] == "Service" for p in d["spec"]["ports"] if p["name"] == "https"]
        expect(len(https) == (1 if secrets else 0), f"{name}: the port for TLS: {https}")
        durability = values.get("gateway", {}).get("journal", {}).get("durability", "process")
        variables = {v["name"]: v.get("value") for v in doc["spec"]["template"]["spec"]["containers"][0]["env"]}
        expect(variables["GATEWAY_JOURNAL_DURABILITY"] == durability, f"{name}: the journal's durability is not {durability}")
        drain = values.get("gateway", {}).get("drainSeconds", 30)
        expect(doc["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > drain, f"{name}: killed before it has drained")


for case, overrides in CASES.items():
    report = helm.lint(CHART, values=overrides, strict=True)
    warnings = [message for message in report["messages"] if message["severity"] > 1]
    expect(not warnings and not report["errors"], f"{case}: lint: {warnings} {report['errors']}")
    check_case(case, overrides)
for case, overrides in REFUSED.items():
    try:
        documents(overrides)
        expect(False, f"{case} is accepted")
    except helm.HelmError:
        pass
print("\n".join(faults) or f"{len(CASES)} sets of values render, {len(REFUSED)} are refused")
sys.exit(bool(faults))
