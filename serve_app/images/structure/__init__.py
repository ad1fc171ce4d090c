"""Checks the structure of image files before they are decoded: counts and sizes that Pillow does not limit.

A few megabytes of empty chunks, overlapping tags or repeated scans can cost a decoder minutes or gigabytes, even if the
picture is small. Each check reads the file's structure but not its pixels, and accepts the files that cameras, editors
and converters write. PNG, GIF, PNM and HEIF files are then reduced to the parts that the pixels need, so that a decoder
cannot interpret a file in another way than the check. The modules do not use Pillow.
"""
