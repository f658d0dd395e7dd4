"""``python -m aikit``, and what `accelerate launch -m aikit` starts in every process."""

import sys

from aikit.cli import main

sys.exit(main())
