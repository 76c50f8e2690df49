/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_block.pml - the life of a log block: lease, append, commit, seal, lease again one lap on.
 *
 * Models take(), ring_reset(), ring_seal(), ring_block_records() and ring_word_empty() (ring_lease.c),
 * publish() (ring.c), recover_block() and finish_reset() (ring_recover.c), ring_source_look(),
 * ring_source_update() with own_update(), ring_source_next() with own_next(), ring_source_copy() and
 * ring_source_begin() with begin_in_reset() (ring_source.c). One block; two writing clients, one of which may
 * be killed at any step; a recoverer, which may be killed too, and the next one; a reader, which opens at any
 * time. Stores arrive late. A client may stop anywhere for as long as it likes: a lease is idle while others
 * run.
 *
 * Shown: a record accepted is one that was written whole in its lap; a lap's base is the count of all
 * earlier records, so what the reader got and what it was told it lost are all since it opened; the block
 * is leased to one at a time, only its holder writes into it, and no death loses it.
 *
 * holds with DEPTH=2 WEAKER  stores overtake each other where nothing forbids it
 * at length with RECORDS=2
 * at length with LAPS=3
 * fails with NO_SECOND_LOOK    the reader believes its copy without looking at the word again
 * fails with LENGTH_FIRST      committed before the payload
 * fails with RESET_OPEN        an idle lease is taken over
 * fails with COUNT_AGAIN       a reset that was cut short counts without asking for the lap of committed
 * fails with ONE_BASE          the new base overwrites the old one
 * fails with LAP_BEFORE_BASE   committed takes its new lap before the base is there
 * fails with OPEN_BEFORE_RESET the block opens before it is reset
 * fails with BEGIN_UNKNOWN     who opens during a reset begins with the lap that it sees next
 * fails with BEGIN_UNCHECKED   who opens during a reset does not look at the word again
 * fails with NO_FINISH         recovery seals what was open and forgets what was resetting
 */
#ifndef RECORDS
#define RECORDS 1 /* that a block holds */
#endif
#ifndef LAPS
#define LAPS 2
#endif

#define A 0
#define B 1
#define R 2
#define PARTIES 3
#ifndef DEPTH
#define DEPTH 1
#endif

#define WORD 0
#define COMMITTED 1
#define BASE 2 /* and 3: by parity of the lap */
#define MEMORY 4
#define CELL 5 /* and 6: payloads */
#define PLACES 7
#include "memory.inc"

#define FREE 0
#define RESETTING 1
#define OPEN 2
#define SEALED 3
#define NOBODY 3
#define MAKE(state, client, lap) ((state) + 4 * (client) + 16 * (lap))
#define STATE(word) ((word) & 3)
#define CLIENT(word) ((word) >> 2 & 3)
#define LAP(word) ((word) >> 4)
#define READABLE(word) (STATE(word) >= OPEN)
#define IN(word, state) (((word) & 252) + (state))

/* ring_word_empty() */
#define EMPTY(p, word) (IN(word, FREE) + (LOAD(p, MEMORY) -> SEALED : FREE))

#define COUNT(committed) ((committed) & 3)
#define TAG(committed) ((committed) >> 2)

#ifdef ONE_BASE
#define BASE_OF(lap) BASE
#else
#define BASE_OF(lap) (BASE + ((lap) & 1))
#endif
/* What is written at a place in a lap. */
#define PAYLOAD(lap, at) (2 * (lap) + (at) + 1)

bool killed[PARTIES];

/* What no program sees. */
byte holder = NOBODY;
byte total; /* records ever committed */
byte begun; /* … when the lap began */
byte from; /* … of them gone when the reader opened */
byte told; /* records that it got, or was told it lost */

inline ring_reset(p, lap)
{
	atomic { c = LOAD(p, COMMITTED) };
	if
#ifndef COUNT_AGAIN
	:: TAG(c) == lap
#endif
#ifdef COUNT_AGAIN
	:: true ->
#else
	:: TAG(c) != lap ->
#endif
		atomic { base = LOAD(p, BASE_OF(lap - 1)) };
		atomic {
			if
			:: LOAD(p, MEMORY) && TAG(c) + 1 == lap -> base = base + COUNT(c)
#ifdef COUNT_AGAIN
			:: LOAD(p, MEMORY) && TAG(c) == lap -> base = base + COUNT(c)
#endif
			:: else
			fi
		};
#ifdef LAP_BEFORE_BASE
		store_release(p, COMMITTED, 4 * (lap));
		store(p, BASE_OF(lap), base)
#else
		store(p, BASE_OF(lap), base);
		store_release(p, COMMITTED, 4 * (lap))
#endif
	fi;
	c = 0;
	base = 0
}

/* One compare-and-swap of the word, from w. */
inline swap(p, to)
{
	STORES_ARRIVED(p);
	if
	:: memory[WORD] == w -> memory[WORD] = to; won = true
	:: else -> won = false
	fi
}

#ifdef RESET_OPEN
#define TAKEABLE(word) (STATE(word) == SEALED || STATE(word) == FREE || STATE(word) == OPEN)
#else
#define TAKEABLE(word) (STATE(word) == SEALED || STATE(word) == FREE)
#endif

inline publish(p, lap)
{
	assert(holder == p);
#ifdef LENGTH_FIRST
	atomic { total++; store_release(p, COMMITTED, 4 * (lap) + n + 1) };
	store(p, CELL + n, PAYLOAD(lap, n));
#else
	store(p, CELL + n, PAYLOAD(lap, n));
	/* Counted as it leaves: what a killed party has stored arrives. */
	atomic { late[p].n < DEPTH -> total++; store_release(p, COMMITTED, 4 * (lap) + n + 1) };
#endif
	n++
}

proctype client(byte me)
{
	byte w, c, base, n;
	bool won;

	{
		do
		:: atomic {
			TAKEABLE(LOAD(me, WORD)) && LAP(LOAD(me, WORD)) < LAPS ->
			w = LOAD(me, WORD)
		   };
			/* take() */
			atomic {
				swap(me, MAKE(RESETTING, me, LAP(w) + 1));
				if
				:: won ->
					w = MAKE(RESETTING, me, LAP(w) + 1);
					begun = total;
					holder = me;
					won = false
				:: else -> w = 0; goto next
				fi
			};
#ifdef OPEN_BEFORE_RESET
			store_release(me, WORD, IN(w, OPEN));
#endif
			ring_reset(me, LAP(w));
			if
			:: LOAD(me, MEMORY) -> skip
			:: !LOAD(me, MEMORY) -> store_release(me, MEMORY, 1)
			:: true -> /* no memory, this time */
				atomic {
					late[me].n < DEPTH ->
					holder = NOBODY;
					w = EMPTY(me, w);
					store_release(me, WORD, w);
					w = 0
				};
				goto next
			fi;
			store_release(me, WORD, IN(w, OPEN));
			/* Records, and then the seal. */
			do
			:: n < RECORDS -> publish(me, LAP(w))
			:: n > 0 -> break
			od;
			atomic {
				n = 0;
				w = IN(w, OPEN);
				STORES_ARRIVED(me);
				if
				:: memory[WORD] == w && holder == me -> holder = NOBODY
				:: else
				fi;
				swap(me, IN(w, SEALED));
				w = 0;
				won = false
			};
next:			skip
		:: atomic { LAP(LOAD(me, WORD)) == LAPS -> break }
		od
	} unless { killed[me] }
}

/* Of client A, after its death is known. */
inline recover(p)
{
	atomic { w = LOAD(p, WORD) };
	if
	:: CLIENT(w) == A && STATE(w) == OPEN ->
		atomic { STORES_ARRIVED(p); holder = NOBODY; swap(p, IN(w, SEALED)) }
#ifndef NO_FINISH
	:: CLIENT(w) == A && STATE(w) == RESETTING ->
		ring_reset(p, LAP(w));
		store_release(p, COMMITTED, 4 * LAP(w));
		atomic {
			late[p].n < DEPTH ->
			holder = NOBODY;
			w = EMPTY(p, w);
			store_release(p, WORD, w)
		}
#endif
	:: else
	fi;
	w = 0;
	won = false
}

proctype recoverer(byte me)
{
	byte w, c, base;
	bool won;

end:	killed[A] && STORES_ARRIVED(A);
	{ recover(me) } unless { killed[me] };
	/* The next one begins again; it is not killed. */
	if
	:: killed[me] && STORES_ARRIVED(me) -> w = 0; c = 0; base = 0; won = false; recover(me)
	:: !killed[me]
	fi
}

#define OF_LAP(word) (READABLE(word) && LAP(word) == lap)
#define NEWS \
	(READABLE(memory[WORD]) && memory[MEMORY] && (LAP(memory[WORD]) != lap || \
		(TAG(memory[COMMITTED]) == lap && COUNT(memory[COMMITTED]) > at)))

/* ring_source_begin() for the oldest there is: w, base and end_at are the reader's. */
inline begin()
{
	do
	:: atomic { STATE(memory[WORD]) == FREE -> known = true; break }
	/* In one step, since ring_source_look(), below, is the same. */
	:: atomic {
		READABLE(memory[WORD]) ->
		lap = LAP(memory[WORD]);
		done = memory[BASE_OF(lap)];
		assert(done == begun);
		from = done;
		known = true;
		break
	   }
	:: atomic { STATE(memory[WORD]) == RESETTING -> w = memory[WORD] };
#ifdef BEGIN_UNKNOWN
		if
		:: atomic { memory[WORD] == w -> from = begun; break }
		:: else
		fi
#else
		/* ring_reset_base() */
		atomic { end_at = memory[COMMITTED] };
		if
		:: TAG(end_at) == LAP(w) -> base = memory[BASE_OF(LAP(w))]
		:: else ->
			base = memory[BASE_OF(LAP(w) - 1)];
			atomic {
				if
				:: memory[MEMORY] && TAG(end_at) + 1 == LAP(w) -> base = base + COUNT(end_at)
				:: else
				fi
			}
		fi;
		atomic {
			if
#ifdef BEGIN_UNCHECKED
			:: true ->
#else
			:: memory[WORD] == w ->
#endif
				assert(base == begun);
				done = base;
				from = base;
				known = true;
				break
#ifndef BEGIN_UNCHECKED
			:: else -> w = 0; base = 0; end_at = 0
#endif
			fi
		}
#endif
	od;
	atomic { w = 0; base = 0; end_at = 0 }
}

proctype reader()
{
	/* done: records that it got, or was told it lost, or that were gone when it opened. */
	byte w, base, lap, done, at, end_at, copy;
	bool known;

	begin();
	do
	/* It looks again and again; those looks count that may find something. */
	:: atomic { NEWS -> w = memory[WORD] };
		/* ring_source_look() */
		if
		:: READABLE(w) && LAP(w) != lap ->
			base = memory[BASE_OF(LAP(w))];
			atomic {
				if
				:: READABLE(memory[WORD]) && LAP(memory[WORD]) == LAP(w) ->
					assert(base == begun);
					assert(base >= done);
					if
					:: known -> told = told + base - done
					:: else
					fi;
					known = true;
					lap = LAP(w);
					done = base;
					at = 0;
					end_at = 0
				:: else
				fi;
				base = 0
			}
		:: else
		fi;
		/* ring_source_update() */
		atomic { w = memory[WORD] };
		atomic {
			if
			:: OF_LAP(w) && TAG(memory[COMMITTED]) == lap -> end_at = COUNT(memory[COMMITTED])
			:: else
			fi;
			w = 0
		};
		/* ring_source_next(), then ring_source_copy() */
		do
		:: at < end_at ->
			copy = memory[CELL + at];
			atomic {
				if
				:: copy == memory[CELL + at]
				:: else -> copy = 0 /* torn */
				fi
			};
			atomic {
				if
#ifdef NO_SECOND_LOOK
				:: true ->
#else
				:: OF_LAP(memory[WORD]) ->
#endif
					assert(copy == PAYLOAD(lap, at));
					at++;
					told++;
					done++
#ifndef NO_SECOND_LOOK
				:: else -> end_at = at
#endif
				fi;
				copy = 0
			}
		:: at >= end_at -> break
		od
	:: atomic {
		timeout ->
		/* The block can be leased again, and the reader has heard of all. */
		assert(STATE(memory[WORD]) == SEALED || STATE(memory[WORD]) == FREE);
		assert(STATE(memory[WORD]) != SEALED || from + told == total);
		break
	   }
	od
}

active proctype killer()
{
	if
	:: killed[A] = true;
		if
		:: killed[R] = true
		:: skip
		fi
	:: skip
	fi
}

init {
	atomic {
		run client(A); run client(B); run recoverer(R);
		run arrivals(A); run arrivals(B); run arrivals(R);
		run reader()
	}
}
