/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_drain.pml - a log block on its way to a disk, while it is written and overwritten.
 *
 * Models look() with adopt() and resume_own(), ring_drain_hold(), consume(), ring_drain_let_go(), ring_drain_note()
 * (ring_drain.c), ring_piece_sealed(), ring_piece_open() (ring_piece.c), recover_block() of what is drained
 * (ring_recover.c), and the order in which the daemon does these (drainer.c). One block; a writer that never waits; a
 * drain, which may be killed at any step; the next drain, which may begin before the first one is recovered. A write
 * to the disk is there whole or not at all: what is torn is cut off.
 *
 * Shown: each record is on the disk once at most, as it was written; those that are not there, when the last drain
 * has nothing left to do, are as many as the disk says were lost.
 *
 * fails with NO_NOTE         the next drain does not ask what was written last
 * fails with CONSUMED_FIRST  consumed before it is written
 * fails with NO_HOLD         a sealed block is written without being held
 * fails with NO_SECOND_LOOK  a copy is believed without looking at the word again
 * fails with FROM_START      a lap that is adopted late is drained from its beginning
 * fails with LOST_AGAIN      what was lost is told with each piece
 */
#ifndef LAPS
#define LAPS 2
#endif
#define RECORDS 2 /* that a block holds */

#define RESETTING 0
#define OPEN 1
#define SEALED 2
#define DRAINING 3

/* The block; word is state and lap. */
byte state = OPEN, lap = 1;
byte by; /* the drain that holds it */
byte committed; /* records of the lap in tag */
byte tag = 1;
byte base[2];
byte consumed;
bool killed, finished;

/* The disk. */
byte stored[16]; /* by lap and place: how often */
byte told; /* lost */
byte noted; /* done, of the last piece */

/* What no program sees. */
byte total, there;

#define PLACE(l, i) ((l) * RECORDS + (i))
#define READABLE (state != RESETTING)

active proctype writer()
{
	byte before;

	do
	:: atomic { committed < RECORDS -> committed++; total++ }
	:: atomic { state == OPEN -> state = SEALED };
		if
		:: lap == LAPS -> break
		:: else
		fi;
		/* Whoever else holds it, this one waits: in the ring it would go on to another block. */
		atomic { state == SEALED -> state = RESETTING; lap++ };
		before = base[(lap - 1) & 1] + committed;
		base[lap & 1] = before;
		atomic { tag = lap; committed = 0 };
		state = OPEN
	od;
	finished = true
}

inline look()
{
	ok = false;
	atomic {
		seen = lap;
		open = state == OPEN;
		if
		:: state == OPEN || state == SEALED -> ok = true
		:: else
		fi
	};
	if
	:: ok && seen != mine ->
		b = base[seen & 1];
		atomic {
			if
			:: READABLE && lap == seen && tag == seen ->
				mine = seen;
				count = 0;
#ifndef FROM_START
				if
				:: done > b -> count = done - b
				:: else
				fi;
#endif
				if
				:: done > b + committed -> done = b + committed
				:: else
				fi
			:: else -> ok = false
			fi
		}
	:: else
	fi
}

/* The piece is there, or the drain was killed before. */
inline write()
{
	d_step {
		i = count;
		do
		:: i < n ->
			stored[PLACE(mine, i)]++;
			assert(stored[PLACE(mine, i)] == 1);
			there++;
			i++
		:: else -> break
		od;
		i = 0;
		told = told + lost;
		noted = b + n
	}
}

inline piece()
{
	lost = 0;
	if
#ifdef LOST_AGAIN
	:: b > start -> lost = b - start
	:: b <= start && b > done -> lost = b - done
#else
	:: b > done -> lost = b - done
#endif
	:: else
	fi;
#ifdef CONSUMED_FIRST
	consumed = b + n;
	write();
#else
	write();
	consumed = b + n;
#endif
	done = b + n;
	count = n
}

inline drain_sealed(me)
{
	held = false;
	atomic {
		if
#ifdef NO_HOLD
		:: state == SEALED && lap == mine -> held = true
#else
		:: state == SEALED && lap == mine -> state = DRAINING; by = me; held = true
#endif
		:: else
		fi
	};
	if
	:: held ->
		n = committed;
		assert(lap == mine);
		if
		:: n > count || b > done -> piece()
		:: else
		fi;
		assert(lap == mine);
		atomic {
			if
			:: state == DRAINING && by == me && lap == mine -> state = SEALED
			:: else
			fi
		}
	:: else
	fi
}

inline drain_open()
{
	atomic {
		n = 0;
		if
		:: tag == mine -> n = committed
		:: else
		fi
	};
	copied = lap; /* whose records they are */
#ifdef NO_SECOND_LOOK
	ok = true;
#else
	atomic { ok = READABLE && lap == mine };
#endif
	if
	:: ok && n > count ->
		assert(copied == mine);
		piece()
	:: else
	fi
}

#define NOTHING_LEFT (finished && state == SEALED && mine == LAPS && done == b + committed)

inline drain(me)
{
	done = consumed;
#ifndef NO_NOTE
	if
	:: noted > done -> done = noted
	:: else
	fi;
#endif
	start = done;
	mine = 0;
	consumed = done;
	do
	:: NOTHING_LEFT -> break
	:: else ->
		look();
		if
		:: ok && open -> drain_open()
		:: ok && !open -> drain_sealed(me)
		:: !ok
		fi;
		d_step { seen = 0; n = 0; lost = 0; copied = 0; ok = false; open = false; held = false }
	od
}

active proctype first()
{
	byte seen, mine, b, done, start, count, n, i, lost, copied;
	bool ok, open, held;

	{ drain(1) } unless { killed }
}

active proctype next()
{
	byte seen, mine, b, done, start, count, n, i, lost, copied;
	bool ok, open, held;

	killed;
	drain(2);
	assert(there + told == total)
}

active proctype recoverer()
{
	killed;
	atomic {
		if
		:: state == DRAINING && by == 1 -> state = SEALED
		:: else
		fi
	}
}

active proctype killer()
{
	killed = true
}
