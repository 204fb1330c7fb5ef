"""``python -m napari_batchfx.cli``: the command line where its script isn't on the path."""

from napari_batchfx.cli import main

if __name__ == "__main__":
    main()
