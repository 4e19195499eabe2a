import sys

from stablediffusiond.cli import main

sys.exit(main())
