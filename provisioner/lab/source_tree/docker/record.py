"""Write the build arguments that arrived: python3 record.py FILE NAME=VALUE…"""

import json
import pathlib
import sys

target = pathlib.Path(sys.argv[1])
target.parent.mkdir(parents=True, exist_ok=True)
target.write_text(json.dumps(dict(word.split("=", 1) for word in sys.argv[2:]), indent=1) + "\n")
