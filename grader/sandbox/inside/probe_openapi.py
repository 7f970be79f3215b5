"""Hold a service to its own description: python probe_openapi.py URL SEED ANSWER.

Requests as /openapi.json allows and as it forbids are made by schemathesis. ANSWER gets {"operations": [...], "fields": {operation: the
names that its body and its answer 200 are said to have}, "asked": how many requests, "faults": [{"operation", "sent", "said"}], one for
each kind} or {"problem": why the description cannot be used}.
"""

import json
import sys

TIMEOUT_SECONDS = 10
EXAMPLES = {"POST": 40, "GET": 4}
WANTED = {"/v1/predict": "POST", "/healthz": "GET", "/readyz": "GET", "/version": "GET"}
LONGEST = 300


def probe(url, seed):
    import hypothesis
    import schemathesis
    from schemathesis import GenerationMode, checks
    from schemathesis.core.failures import Failure, FailureGroup

    asked = [
        getattr(checks, name, None)
        or next(c for c in checks.CHECKS.get_all() if c.__name__ == name)
        for name in (
            "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
        )
    ]  # fmt: skip
    try:
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json", timeout=TIMEOUT_SECONDS)
        operations = [result.ok() for result in schema.get_all_operations()]
    except Exception as problem:  # whatever is wrong with it
        return {"problem": f"it cannot be used: {type(problem).__name__}: {str(problem)[:LONGEST]}"}
    names = [f"{operation.method.upper()} {operation.path}" for operation in operations]
    faults, count = {}, 0

    for operation in operations:
        if WANTED.get(operation.path) != operation.method.upper():
            continue

        def ask(case):
            nonlocal count
            operation = case.operation
            count += 1
            try:
                case.validate_response(case.call(base_url=url, timeout=TIMEOUT_SECONDS), checks=asked)
            except FailureGroup as group:
                found = list(group.exceptions)
            except Failure as failure:
                found = [failure]
            except Exception as problem:
                found = [problem]
            else:
                return
            for one in found:
                what = getattr(one, "title", None) or type(one).__name__
                name = f"{operation.method.upper()} {operation.path}"
                sent = (
                    json.dumps(case.body, default=str)[:LONGEST]
                    if case.body.__class__.__name__ != "NotSet"
                    else "no body"
                )
                said = f"{what}: {' '.join(str(one).split())}"[:LONGEST]
                faults.setdefault((name, what), {"operation": name, "sent": sent, "said": said})

        for mode in GenerationMode:
            test = hypothesis.settings(
                max_examples=EXAMPLES[operation.method.upper()], database=None, deadline=None,
                suppress_health_check=list(hypothesis.HealthCheck), phases=[hypothesis.Phase.generate],
            )(hypothesis.seed(seed)(hypothesis.given(case=operation.as_strategy(generation_mode=mode))(ask)))  # fmt: skip
            try:
                test()
            except Exception as problem:  # there may be nothing that a description forbids
                if type(problem).__name__ not in ("Unsatisfiable", "SkipTest"):
                    faults.setdefault(
                        (operation.path, "unusable"),
                        {
                            "operation": names[0],
                            "sent": "nothing",
                            "said": f"{type(problem).__name__}: {problem}"[:LONGEST],
                        },
                    )
    known = {name: described(operation, schema.raw_schema) for name, operation in zip(names, operations, strict=True)}
    return {"operations": names, "fields": known, "asked": count, "faults": list(faults.values())}


def fields(part, whole):
    """The names of all properties that a part of a description speaks of, in what it refers to as well; each part is looked at once."""
    found, waiting, seen = set(), [part], set()
    while waiting:
        one = waiting.pop()
        if not isinstance(one, dict | list) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, list):
            waiting += one
            continue
        if isinstance(one.get("properties"), dict):
            found |= set(one["properties"])
        reference = one.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/"):
            target = whole
            for word in reference[2:].split("/"):
                target = target.get(word) if isinstance(target, dict) else None
            waiting.append(target)
        waiting += one.values()
    return found


def described(operation, whole):
    """What the body and the answer 200 of an operation are said to hold."""
    given = whole
    for word in ("paths", operation.path, operation.method.lower()):
        given = given.get(word) if isinstance(given, dict) else None
    given = given if isinstance(given, dict) else {}
    answers = given.get("responses")
    parts = [given.get("requestBody"), answers.get("200") if isinstance(answers, dict) else None]
    return sorted(set().union(*(fields(part, whole) for part in parts)))


if __name__ == "__main__":
    found = probe(sys.argv[1], int(sys.argv[2]))
    with open(sys.argv[3], "w", encoding="utf-8") as file:
        json.dump(found, file)
