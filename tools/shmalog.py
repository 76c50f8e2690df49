#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""shmalog.py [--raw] PATH... : the records of a log's segments, or directories of them, as stored.
It needs Python's own library, for .zst the zstd program, and knows what libclient/ondisk/SEGMENT.md says.
--raw: time level pid tid seq dropped lost fields block lap at, then the bytes in hexadecimal."""
import datetime, functools, os, re, struct, subprocess, sys

HEADER = struct.Struct("<8sII16sQQII64s16s116xI")
FRAGMENT = struct.Struct("<4sBBHIIIIIIQQQQiiQII32sII")
NAMES = ("magic kind levels client block lap from to records incarnation ticket time_min time_max "
         "real_offset pid tid lost bytes payload_crc slots done crc").split()
OWN, SHARED, LARGE, LOSS, INDEX, MARK = 1, 2, 3, 4, 5, 6
TYPES = {1: bytes.decode, 2: lambda v: struct.unpack("<q", v)[0], 3: lambda v: struct.unpack("<Q", v)[0],
         4: lambda v: struct.unpack("<d", v)[0], 5: any, 6: bytes.hex}
TABLE = list(range(256))
for _ in range(8):
    TABLE = [crc >> 1 ^ 0x82F63B78 * (crc & 1) for crc in TABLE]


def crc32c(data):
    crc = functools.reduce(lambda crc, byte: TABLE[(crc ^ byte) & 255] ^ crc >> 8, data, 0xFFFFFFFF)
    return crc ^ 0xFFFFFFFF


def fragments(path, data, closed):
    """What is there, each with its payload; None: changed while it was written, or not known to be there."""
    head, at, found = HEADER.unpack_from(data) if len(data) >= 256 else (b"",), 256, []
    if head[0] != b"SHMALOG1" or head[-1] != crc32c(data[:252]):
        return print(f"{path}: no segment", file=sys.stderr)
    while at + 128 <= len(data):
        f = dict(zip(NAMES, FRAGMENT.unpack_from(data, at)), ring=head[3] + head[9])
        f["end"] = at + 128 + f["bytes"]
        if f["magic"] != b"FRAG" or f["crc"] != crc32c(data[at:at + 124]) or f["end"] > len(data):
            break
        found.append((f, data[at + 128:f["end"]]))
        at = f["end"] + -f["bytes"] % 8
    closed = closed or any(f["kind"] == INDEX for f, _ in found)
    written = at if closed else max([f["ticket"] for f, _ in found if f["kind"] == MARK], default=0)
    for f, payload in found:
        good, f["known"] = f["payload_crc"] == crc32c(payload), f["end"] <= written
        at = at if good or f["known"] else min(at, f["end"])
        yield f, payload if good else None
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
    length, count, _ = struct.unpack_from("<IHH", data) if fields else (len(data), 0, 0)
    words, at = [data[8 * fields:8 * fields + length].decode("utf-8", "replace")], 8 + length
    for _ in range(count):
        kind, key, _, value = struct.unpack_from("<BBHI", data, at)
        at += 8 + key + value
        words.append(f"{data[at - value - key:at - value].decode()}={TYPES[kind](data[at - value:at])}")
    return " ".join(words)


def segments(path):
    names = sorted(os.listdir(path))[::-1] if os.path.isdir(path) else []
    found = {n[:16]: n for n in names if re.fullmatch(r"\d{16}\.log(\.zst)?", n)}
    there = [(os.path.join(path, found[n]), n != max(found)) for n in sorted(found)]
    return there if os.path.isdir(path) else [(path, False)]


def main(raw, paths, seen, lost=0):
    for path, closed in sum(map(segments, paths), []):
        data, large = open(path, "rb").read(), {}
        if path.endswith(".zst"):
            data = subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=True).stdout
        for f, payload in fragments(path, data, closed):
            key, texts = (f["ring"], f["block"], f["lap"]), f["kind"] in (OWN, SHARED)
            new, spoilt = texts and (*key, f["from"]) not in seen, None in (payload, *large.values())
            counted = f["lost"] * (new or f["kind"] == LOSS) + f["records"] * (new and spoilt)
            lost += counted * (f["known"] or not spoilt)
            for r, text in records(f, payload, large) if texts and not spoilt else ():
                if (*key, r["at"]) not in seen:
                    seen.add((*key, r["at"]))
                    r["lost"], lost = lost, 0
                    when = datetime.datetime.fromtimestamp(r["time"] / 1e9, datetime.timezone.utc)
                    shown = r.values() if raw else (when.isoformat(), r["level"], f"{r['pid']}/{r['tid']}")
                    print(*shown, text.hex() if raw else readable(text, r["fields"]))
            large = {**large, f["from"]: payload} if f["kind"] == LARGE else {}


main("--raw" in sys.argv, [p for p in sys.argv[1:] if p != "--raw"] or sys.exit(__doc__), set())
