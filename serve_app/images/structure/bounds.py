"""How many parts an image file may have: bounds that neither Pillow nor the size of the picture sets."""

MAX_BLOCKS = 4096
"""Metadata segments (JPEG), chunks other than pixel data (PNG), or tags (TIFF) of one file."""
MAX_GIF_BLOCKS = 16_384
"""Blocks and sub-blocks of a GIF before its first frame; XMP of 1 MB takes some 10,000."""
MAX_PIXEL_CHUNKS = 65_536
"""PNG IDAT chunks, or strips and tiles of a TIFF: a 50-megapixel file of 32 x 32 tiles has 50,000."""
MAX_SCANS = 40
"""Scans of one JPEG; libjpeg's own progressive script writes 10, and libtiff allows 100."""
MAX_SAMPLE_BYTES = 300_000_000
"""Unpacked samples of a TIFF that is read here: 50 megapixels of three samples of 16 bits."""
MAX_RLE_BYTES = 512 * 1024
"""Run-length-coded BMP, whose runs are read one by one in Python."""
