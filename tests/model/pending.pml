/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pending.pml - extents given back while their zone's lock is held, and its holder's death.
 *
 * Models zone_trylock(), drain_pending(), zone_free_run() and zone_return_later() (zone.c), extent_free(),
 * extent_reclaim() and take_from_zone() (extent.c). Two extents; A and B take and give back, A may be
 * killed at any step, with the lock held or not, and is reclaimed from. The index is what the buddy keeps.
 *
 * Shown: no extent is taken while somebody has it, none enters the index twice, and when the lock has been
 * taken once more each is free in both truth and index, or a living client's.
 *
 * fails with POP_FIRST      the stack is taken off before what is on it is freed
 * fails with NO_LOOK_AGAIN  reclaiming does not look again once it has the lock
 * fails with STILL_RAW      an extent on the stack looks like any other of its owner's
 * fails with NO_REBUILD     the index a dead holder left is used
 * fails with FREE_ANYTHING  whatever lies on the stack is freed
 */
#define EXTENTS 2
#define A 1
#define B 2
#define R 3

#define FREE 0
#define RAW 1
#define RETURNED 2
#define MAKE(kind, client) ((kind) + 4 * (client))
#define KIND(e) ((e) & 3)
#define CLIENT(e) ((e) >> 2)

byte entry[EXTENTS];  /* word 0 */
byte next[EXTENTS];   /* in word 1: extent + 1 */
bool index[EXTENTS];  /* free */
byte top;	      /* of the pending stack: extent + 1 */
byte pushes;	      /* the counter beside it */
byte lock;	      /* its holder */
bool lock_of_dead, killed, gone;

inline free_run(e)
{
	entry[e] = MAKE(FREE, 0);
	atomic { assert(!index[e]); index[e] = true }
}

/* One compare-and-swap of the head, from seen and count. Inside atomic. */
inline swap_top(to)
{
	if
	:: top == seen && pushes == count -> top = to; pushes = (pushes + 1) & 7; won = true
	:: else -> won = false; seen = top; count = pushes
	fi
}

inline drain_pending()
{
	atomic { seen = top; count = pushes };
	done = 0;
	do
	:: seen == 0 -> break
	:: seen != 0 ->
#ifdef POP_FIRST
		at = seen;
		atomic { swap_top(0) };
		if
		:: !won -> goto again
		:: won
		fi;
#else
		at = seen;
#endif
		do
		:: at == 0 || at == done -> break
		:: at != 0 && at != done ->
			if
#ifdef FREE_ANYTHING
			:: true ->
#else
			:: KIND(entry[at - 1]) == RETURNED ->
#endif
				free_run(at - 1)
#ifndef FREE_ANYTHING
			:: KIND(entry[at - 1]) != RETURNED
#endif
			fi;
			at = next[at - 1]
		od;
#ifdef POP_FIRST
		break;
again:
		skip
#else
		done = seen;
		atomic { swap_top(0) };
		if
		:: won -> break
		:: !won
		fi
#endif
	od;
	atomic { seen = 0; count = 0; done = 0; at = 0; won = false }
}

/* locked says whether it was had. */
inline trylock(me)
{
	atomic {
		if
		:: lock == 0 -> lock = me; locked = true
		:: lock == A && lock_of_dead -> lock = me; lock_of_dead = false; locked = true; rebuild = true
		:: lock != 0 && !(lock == A && lock_of_dead) -> locked = false
		fi
	};
	if
	:: locked ->
#ifndef NO_REBUILD
		atomic {
			if
			:: rebuild -> index[0] = (KIND(entry[0]) == FREE); index[1] = (KIND(entry[1]) == FREE)
			:: !rebuild
			fi
		};
#endif
		rebuild = false;
		if
		:: top != 0 -> drain_pending()
		:: top == 0
		fi
	:: !locked
	fi
}

inline unlock()
{
	atomic { lock = 0; locked = false }
}

/* extent_alloc() of extent e. */
inline take(me, e)
{
	trylock(me);
	if
	:: locked && index[e] ->
		index[e] = false;
		atomic { assert(KIND(entry[e]) == FREE); entry[e] = MAKE(RAW, me) };
		has = e + 1;
		unlock()
	:: locked && !index[e] -> unlock()
	:: !locked
	fi
}

inline give_back(me, e)
{
	assert(entry[e] == MAKE(RAW, me));
	trylock(me);
	if
	:: locked ->
		free_run(e);
		unlock()
	:: !locked ->
		atomic { seen = top; count = pushes };
#ifndef STILL_RAW
		entry[e] = MAKE(RETURNED, me);
#endif
		do
		:: true ->
			next[e] = seen;
			atomic { swap_top(e + 1) };
			if
			:: won -> break
			:: !won
			fi
		od;
		atomic { seen = 0; count = 0; won = false }
	fi
}

proctype client(byte me)
{
	byte seen, count, done, at, has, calls;
	bool won, locked, rebuild;

	{
		do
		:: calls < 2 ->
			calls++;
			if
			:: take(me, 0)
			:: take(me, 1)
			fi;
			if
			:: has != 0 -> give_back(me, has - 1)
			:: has == 0
			fi;
			has = 0
		:: true -> break
		od;
		seen = 0
	} unless {
		killed && me == A ->
			atomic {
				gone = true;
				if
				:: lock == A -> lock_of_dead = true
				:: else
				fi
			}
	}
}

/* extent_reclaim() */
inline reclaim(e)
{
	do
	:: !(KIND(entry[e]) != FREE && CLIENT(entry[e]) == A) -> break
	:: KIND(entry[e]) != FREE && CLIENT(entry[e]) == A ->
		/* In slices: later, if the lock is held. */
		lock == 0 || lock_of_dead;
		trylock(R);
		if
		:: !locked
		:: locked ->
			if
#ifdef NO_LOOK_AGAIN
			:: true -> free_run(e)
#else
			:: KIND(entry[e]) != FREE && CLIENT(entry[e]) == A -> free_run(e)
			:: !(KIND(entry[e]) != FREE && CLIENT(entry[e]) == A)
#endif
			fi;
			unlock()
		fi
	od
}

proctype recoverer()
{
	byte seen, count, done, at;
	bool won, locked, rebuild;

end:	gone;
	reclaim(0);
	reclaim(1)
}

active proctype killer()
{
	if
	:: killed = true
	:: skip
	fi
}

#define WELL(e) ((KIND(entry[e]) == FREE && index[e]) || entry[e] == MAKE(RAW, B))

init {
	byte seen, count, done, at;
	bool won, locked, rebuild;

	atomic {
		index[0] = true;
		index[1] = true;
		run client(A); run client(B); run recoverer()
	};
	timeout;
	trylock(R);
	assert(locked);
	assert(WELL(0) && WELL(1))
}
