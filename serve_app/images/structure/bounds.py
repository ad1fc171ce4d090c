"""Limits on the parts of an image file. Neither Pillow nor the size of the picture limits them."""

MAX_BLOCKS = 4096
"""Metadata segments (JPEG), chunks without pixels (PNG), tags (TIFF), or boxes (AVIF, HEIF) of one file."""
MAX_GIF_BLOCKS = 16_384
"""Blocks and sub-blocks of a GIF before its first frame. XMP of 1 MB takes about 10,000."""
MAX_PIXEL_CHUNKS = 65_536
"""PNG chunks with pixels, strips and tiles of a TIFF, or items of an AVIF or HEIF, of one file.

A TIFF of 50 megapixels with tiles of 32 x 32 pixels has 50,000."""
MAX_SCANS = 40
"""Scans of one JPEG. libjpeg's progressive script writes 10, and libtiff allows 100."""
MAX_SAMPLE_BYTES = 300_000_000
"""Unpacked samples of a TIFF that Pillow does not decode: 50 megapixels of three 16-bit samples."""
MAX_RLE_BYTES = 512 * 1024
"""Size of a run-length-coded BMP, whose runs are decoded one by one in Python."""
