/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.pml - the line from counter to time in the ring's header, drawn by whoever comes first.
 *
 * Models get_point(), set_point(), set_line() and adopt() (clock.c): two ends of an epoch, in a ring of places
 * that is as small as can be. At any step the counter may go on, so that a party may have been stopped for some
 * epochs between any two of its steps, or for good. Each would draw another line.
 *
 * Shown: a point is set once, and all who adopt the line of an epoch adopt the same.
 *
 * fails with TWO_STORES      epoch and time of a point are stored one after the other
 * fails with NO_SECOND_LOOK  a point is read without looking at its epoch again
 * fails with OLD_COUNTER     how late it is was looked at before the point was
 * fails with OWN_VALUE       who comes second goes by the line that he would have drawn
 */
#define PLACES 2
#define LAST 4 /* epoch; one more has a point */
#define PARTIES 2

byte counter = 1;
byte epoch_at[PLACES], ns_at[PLACES]; /* struct clock_point */
byte drawn[LAST + 2];		      /* what was set, by epoch */

#define PLACE(e) ((e) % PLACES)
#define MINE(e) ((e) * PARTIES + _pid + 1)

/* read_point(): of an epoch 0 if it changed. */
inline read_point(p)
{
	seen_epoch = epoch_at[p];
	seen_ns = ns_at[p];
#ifndef NO_SECOND_LOOK
	if
	:: epoch_at[p] != seen_epoch -> seen_epoch = 0
	:: else
	fi
#endif
}

inline get_point(e, ns)
{
	read_point(PLACE(e));
	found = (seen_epoch == e);
	ns = seen_ns
}

inline swap_point(e)
{
#ifdef TWO_STORES
	if
	:: epoch_at[PLACE(e)] == seen_epoch -> epoch_at[PLACE(e)] = e; ns_at[PLACE(e)] = MINE(e); drawn[e] = MINE(e)
	:: else
	fi
#else
	atomic {
		if
		:: epoch_at[PLACE(e)] == seen_epoch && ns_at[PLACE(e)] == seen_ns ->
			epoch_at[PLACE(e)] = e;
			ns_at[PLACE(e)] = MINE(e);
			assert(drawn[e] == 0);
			drawn[e] = MINE(e)
		:: else
		fi
	}
#endif
}

inline set_point(e, ns)
{
	read_point(PLACE(e));
#ifdef OLD_COUNTER
	now = ticks;
#else
	now = counter;
#endif
	if
	:: e < now -> found = false
	:: else ->
		if
		:: seen_epoch < e || seen_epoch > now + 1 -> swap_point(e)
		:: else
		fi;
		get_point(e, ns)
#ifdef OWN_VALUE
		;
		ns = MINE(e)
#endif
	fi
}

active [PARTIES] proctype party()
{
	byte ticks, now, seen_epoch, seen_ns, from, to;
	bool found;

	do
	:: counter < LAST ->
		ticks = counter; /* sample() */
		get_point(ticks, from);
		if
		:: found -> get_point(ticks + 1, to)
		:: else
		fi;
		if
		:: !found ->
			set_point(ticks, from);
			if
			:: found -> set_point(ticks + 1, to)
			:: else
			fi
		:: else
		fi;
		if
		:: found -> assert(from == drawn[ticks] && to == drawn[ticks + 1])
		:: else
		fi;
		atomic { found = false; ticks = 0; now = 0; seen_epoch = 0; seen_ns = 0; from = 0; to = 0 }
	:: counter == LAST -> break
	od
}

active proctype clock()
{
	do
	:: counter < LAST -> counter++
	:: counter == LAST -> break
	od
}
