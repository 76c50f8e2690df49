#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""shmalog.py [--raw] PATH... : the records of a log's segments, or directories of them, as stored.
It needs Python's own library, for .zst the zstd program, and knows what libclient/SEGMENT.md says.
--raw: time level pid tid seq dropped lost fields block lap at, then the bytes in hexadecimal."""
import datetime, os, re, struct, subprocess, sys

HEADER = struct.Struct("<8sII16sQQII64s16s116xI")
FRAGMENT = struct.Struct("<4sBBHIIIIIIQQQQiiQII32sII")
NAMES = ("magic kind levels client block lap from to records incarnation ticket time_min time_max "
         "real_offset pid tid lost bytes payload_crc slots done crc").split()
OWN, SHARED, LARGE, LOSS, INDEX = 1, 2, 3, 4, 5
TYPES = {1: bytes.decode, 2: lambda v: struct.unpack("<q", v)[0], 3: lambda v: struct.unpack("<Q", v)[0],
         4: lambda v: struct.unpack("<d", v)[0], 5: any, 6: bytes.hex}
TABLE = list(range(256))
for _ in range(8):
    TABLE = [crc >> 1 ^ (0x82F63B78 if crc & 1 else 0) for crc in TABLE]


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def fragments(path, data):
    """The fragments that are whole, each with its payload."""
    head = HEADER.unpack_from(data) if len(data) >= 256 else (b"",)
    if head[0] != b"SHMALOG1" or head[-1] != crc32c(data[:252]):
        return print(f"{path}: no segment", file=sys.stderr)
    at = 256
    while at + 128 <= len(data):
        f = dict(zip(NAMES, FRAGMENT.unpack_from(data, at)), ring=head[3])
        payload = data[at + 128:at + 128 + f["bytes"]]
        if (f["magic"] != b"FRAG" or f["crc"] != crc32c(data[at:at + 124])
                or len(payload) < f["bytes"] or f["payload_crc"] != crc32c(payload)):
            break
        yield f, payload
        if f["kind"] == INDEX:
            return
        at += 128 + f["bytes"] + -f["bytes"] % 8
    if at != len(data):
        print(f"{path}: torn at {at} of {len(data)}", file=sys.stderr)


def records(f, payload, large):
    """Of a fragment of kind 1 or 2. large: payloads of the kind 3 before it, by place."""
    slots = [n for n in range(256) if f["slots"][n // 8] >> n % 8 & 1]
    author, align, at = (8, 16, 0) if f["kind"] == SHARED else (0, 8, 0)
    for n in range(f["records"]):
        info, dropped, time, seq = struct.unpack_from("<IIQQ", payload, at + author)
        length, is_large, start = info & 0x1FFFFF, info >> 24 & 1, at + author + 24
        place = slots[n] if author else f["from"] + at
        data = large.get(place, b"") if is_large else payload[start:start + length]
        pid, tid = struct.unpack_from("<ii", payload, at) if author else (f["pid"], f["tid"])
        yield dict(time=(time + f["real_offset"]) % 2**64, level=info >> 21 & 7, pid=pid, tid=tid,
                   seq=seq, dropped=dropped, lost=0, fields=info >> 25 & 1, block=f["block"],
                   lap=f["lap"], at=place), data
        at += (author + 24 + (16 if is_large else length) + align - 1) // align * align


def readable(data, fields):
    if not fields:
        return data.decode("utf-8", "replace")
    length, count, _ = struct.unpack_from("<IHH", data)
    words, at = [data[8:8 + length].decode("utf-8", "replace")], 8 + length
    for _ in range(count):
        kind, key, _, value = struct.unpack_from("<BBHI", data, at)
        at += 8 + key + value
        words.append(f"{data[at - value - key:at - value].decode()}={TYPES[kind](data[at - value:at])}")
    return " ".join(words)


def segments(path):
    names = sorted(os.listdir(path), reverse=True) if os.path.isdir(path) else []
    found = {n[:16]: n for n in names if re.fullmatch(r"\d{16}\.log(\.zst)?", n)}
    return [os.path.join(path, found[n]) for n in sorted(found)] if os.path.isdir(path) else [path]


def main(raw, paths, seen, lost=0):
    for path in sum(map(segments, paths), []):
        data, large = open(path, "rb").read(), {}
        if path.endswith(".zst"):
            data = subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=True).stdout
        for f, payload in fragments(path, data):
            key = f["ring"], f["block"], f["lap"]
            if f["kind"] == LOSS or f["kind"] in (OWN, SHARED) and (*key, f["from"]) not in seen:
                lost += f["lost"]
            for r, text in records(f, payload, large) if f["kind"] in (OWN, SHARED) else ():
                if (*key, r["at"]) not in seen:
                    seen.add((*key, r["at"]))
                    r["lost"], lost = lost, 0
                    when = datetime.datetime.fromtimestamp(r["time"] / 1e9, datetime.timezone.utc)
                    shown = r.values() if raw else (when.isoformat(), r["level"], f"{r['pid']}/{r['tid']}")
                    print(*shown, text.hex() if raw else readable(text, r["fields"]))
            large = {**large, f["from"]: payload} if f["kind"] == LARGE else {}


main("--raw" in sys.argv, [p for p in sys.argv[1:] if p != "--raw"] or sys.exit(__doc__), set())
