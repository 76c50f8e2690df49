/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hint.pml - who frees an object and then looks at the hint, against who finds none and clears it.
 *
 * Models put_word() and put_bits(), claim_from_slab(), claim_object() and claim_by_hints(), slab_retire() with
 * claim_all() and unclaim(), slab_refresh_bits() (slab.c), slab_recover() with take_over(), free_slab() and
 * free_words() (slab_reclaim.c), hint_set() and hint_clear() (hint.c). A slab of two objects, whose bits, leaf hint and summary are changed by locked instructions,
 * its words also by stores that arrive late. P and Q put back an object each, and give the slab back if
 * it looks empty; C looks for one; Q may be killed at any step and is recovered.
 *
 * Shown: when all have come to the end of their calls, a free object has its bit and can be found through
 * the hints, and a slab with no other object was given back, by one, who had all of it.
 *
 * at length with DEPTH=2 WEAKER
 * fails with NO_LAST_LOOK   the claimer does not look again after clearing
 * fails with BITS_BY_STORE  bits are set by a plain store, and the hint is looked at before it arrives
 * fails with HINT_FIRST     the freer looks at the hint, then frees
 * fails with NO_FENCE       recovery looks at the bits before its stores to the words have arrived
 * fails with ONE_TRY        who fails to claim the whole slab does not look again whether it is empty now
 * fails with TAKE_OVER_BY_STORE  recovery stores over free objects to have the whole slab
 * fails with NO_RECOVERY    a dead client's bits and hints are not computed anew
 */
#define P 0
#define Q 1
#define C 2
#define R 3
#define PARTIES 4
#define PLACES 3 /* two words; bits under BITS_BY_STORE */
#define BITS 2
#ifndef DEPTH
#define DEPTH 1
#endif
#include "memory.inc"

#define FREE 0
#define OF(client) ((client) + 1)	/* private */
#define WHOLE(client) ((client) + 5)	/* claimed with the whole slab */

bool leaf, summary;
bool killed;
bool gone;		/* the slab was given back */
bool has;		/* C has an object */

#define bits memory[BITS]

inline hint_set(p)
{
	if
	:: leaf
	:: !leaf -> atomic { STORES_ARRIVED(p); leaf = true }
	fi;
	if
	:: summary
	:: !summary -> atomic { STORES_ARRIVED(p); summary = true }
	fi
}

inline hint_clear(p)
{
	atomic { STORES_ARRIVED(p); leaf = false };
	if
	:: leaf
	:: !leaf ->
		summary = false;
		if
		:: leaf -> summary = true
		:: !leaf
		fi
	fi
}

/* Inside atomic: one compare-and-swap of a word that was seen free. */
inline claim(p, i, what)
{
	STORES_ARRIVED(p);
	if
	:: memory[i] == FREE && !gone -> memory[i] = what; won = true
	:: else -> won = false
	fi
}

inline refresh_bits(p)
{
	atomic { free = (LOAD(p, 0) == FREE) };
	atomic { free = free + 2 * (LOAD(p, 1) == FREE) };
	if
	:: (free & ~bits) != 0 -> atomic { STORES_ARRIVED(p); bits = bits | free }
	:: (free & ~bits) == 0
	fi;
	if
	:: free != 0 -> free = 0; hint_set(p)
	:: free == 0
	fi
}

/* If the slab looks empty. Tries again while it does. */
inline retire(p)
{
	do
	:: bits != 3 || gone -> break
	:: bits == 3 && !gone ->
		atomic { claim(p, 0, WHOLE(p)) };
		if
		:: won ->
			atomic { claim(p, 1, WHOLE(p)) };
			if
			:: won ->
				atomic {
					assert(!gone && memory[0] == WHOLE(p) && memory[1] == WHOLE(p));
					gone = true
				}
			:: !won ->
				/* unclaim() */
				store_seq_cst(p, 0, FREE);
				refresh_bits(p)
			fi
		:: !won -> refresh_bits(p)
		fi;
		won = false
#ifdef ONE_TRY
		; break
#endif
	od
}

inline put(p, i)
{
#ifdef HINT_FIRST
	hint_set(p);
#endif
	store_release(p, i, FREE);
#ifdef BITS_BY_STORE
	store(p, BITS, bits | (1 << i));
#else
	atomic { STORES_ARRIVED(p); bits = bits | (1 << i) };
#endif
#ifndef HINT_FIRST
	hint_set(p);
#endif
	retire(p)
}

/* Puts its object back, or keeps it. */
proctype putter(byte me)
{
	bool won;
	byte free;

	{
		if
		:: true -> put(me, me)
		:: true
		fi
	} unless { killed && me == Q }
}

/* claim_from_region(): takes a bit off, then tries its word. */
inline look_at(p, i)
{
	if
	:: atomic { (bits >> i) & 1 -> bits = bits & ~(1 << i) };
		atomic { claim(p, i, OF(p)); has = has || won }
	:: atomic { !((bits >> i) & 1) -> skip }
	fi
}

inline look(p)
{
	look_at(p, 0);
	if
	:: !won -> look_at(p, 1)
	:: won
	fi
}

proctype claimer(byte me)
{
	bool won;

	if
	:: leaf && summary && !gone ->
		look(me);
		if
		:: won
		:: !won ->
			hint_clear(me);
#ifndef NO_LAST_LOOK
			look(me);
			if
			:: won -> hint_set(me)
			:: !won
			fi
#endif
		fi
	:: true
	fi
}

#define IS_DEADS(i) (LOAD(me, i) == OF(Q) || LOAD(me, i) == WHOLE(Q))

/* take_over(), claim_for_dead(): won if every object is Q's, where it had at least one and others were free. */
inline take_over()
{
	atomic { won = (IS_DEADS(0) || IS_DEADS(1)) };
	i = 0;
	do
	:: won && i < 2 ->
		if
		:: atomic { IS_DEADS(i) -> skip }
		:: atomic { !IS_DEADS(i) && LOAD(me, i) == FREE -> skip };
#ifdef TAKE_OVER_BY_STORE
			store_release(me, i, WHOLE(Q))
#else
			atomic { claim(me, i, WHOLE(Q)) }
#endif
		:: atomic { !IS_DEADS(i) && LOAD(me, i) != FREE -> won = false }
		fi;
		i++
	:: else -> break
	od;
	i = 0
}

/* free_words() */
inline free_words()
{
	do
	:: i < 2 ->
		if
		:: memory[i] == OF(Q) || memory[i] == WHOLE(Q) -> store_release(me, i, FREE)
		:: else
		fi;
		i++
	:: i == 2 -> break
	od;
#ifndef NO_FENCE
	fence(me);
#endif
#ifndef NO_RECOVERY
	refresh_bits(me);
#endif
	retire(me)
}

/* slab_recover() of Q, after its death is known. Closing the record is the end of the slab: free_slab(). */
proctype recoverer(byte me)
{
	bool won;
	byte free, i;

end:	killed && STORES_ARRIVED(Q);
	if
	:: gone
	:: !gone ->
		if
		:: take_over()
		:: true /* its record is busy with another dead one */
		fi;
		if
		:: won ->
			won = false;
			atomic {
				STORES_ARRIVED(me);
				assert(!gone && !has && (memory[0] == OF(Q) || memory[0] == WHOLE(Q)) &&
				       (memory[1] == OF(Q) || memory[1] == WHOLE(Q)));
				gone = true
			}
		:: !won -> free_words()
		fi
	fi
}

active proctype killer()
{
	if
	:: killed = true
	:: skip
	fi
}

#define FOUND(i) (memory[i] != FREE || (((bits >> i) & 1) && leaf && summary))

init {
	atomic {
		memory[0] = OF(P);
		memory[1] = OF(Q);
		leaf = true;
		summary = true;
		run putter(P); run putter(Q); run claimer(C); run recoverer(R);
		run arrivals(P); run arrivals(Q); run arrivals(R)
	};
	timeout;
	assert(gone || (FOUND(0) && FOUND(1)));
	assert(gone || memory[0] != FREE || memory[1] != FREE)
}
