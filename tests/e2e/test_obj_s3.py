#!/usr/bin/env python3
"""The S3 back end (obj_s3_test.c) against a Swift of its own, which it ends in its last test."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *  # noqa: E402,F403


@test(timeout=900, needs=("tools", "swift"))
def object_store_against_a_real_server(t):
    swift = Swift(t)
    text = t.run(os.path.join(BUILD, "tests/e2e/obj_s3_test"), swift.endpoint, swift.access, swift.secret,
                 "sh", Swift.SCRIPT, "stop", swift.dir, timeout=240)
    assert " 0 failed" in text, text
    assert swift.secret not in text


if __name__ == "__main__":
    sys.exit(main())
