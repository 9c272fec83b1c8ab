"""Image files in memory, including PNGs that no library writes."""

import io
import struct
import zlib


def encoded(image, kind="PNG", **settings):
    """Encode a Pillow image."""
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def write(path, data):
    path.write_bytes(data)
    return path


def png(bits, color_type, rows, *, size=None):
    """Encode a PNG from rows of packed bytes; its header can state another (width, height)."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    size = size or (len(rows[0]) * 8 // bits, len(rows))
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    header = struct.pack(">IIBBBBB", *size, bits, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
