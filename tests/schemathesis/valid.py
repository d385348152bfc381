"""Whether a document is valid OpenAPI 3.1, by the specification's own schema."""

import json
import sys

from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

with open(sys.argv[1], encoding="utf-8") as file:
    document = json.load(file)
problems = [f"{error.instance_path}: {error.message}" for error in OPENAPI_31_VALIDATOR.iter_errors(document)]
print("\n".join(problems))
sys.exit(1 if problems else 0)
