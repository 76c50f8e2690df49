/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hint.pml - who frees an object and then looks at the hint, against who finds none and clears it; and who holds
 * a slab's record, to draw from the slab or to give it back, while others free objects of it.
 *
 * Models slab_put() and tell(), slab_hold(), slab_open() and slab_let_go(), claim_from_slab() with
 * claim_objects(), claim_by_hints(), slab_retire() with all_free(), slab_refresh_bits() (slab.c,
 * slab_put.c, slab_hold.c), slab_recover() with inherit(), take_over(), free_slab() and free_words() (slab_reclaim.c), hint_set() and hint_clear()
 * (hint.c). A slab of two objects, whose bits, leaf hint, summary and record's owner are changed by locked
 * instructions, its words by stores that arrive late. P and Q have an object each, and put it back, and the slab
 * if it looks empty; with DRAWS Q draws from the slab instead; C looks for an object; Q may be killed at any step, holding
 * or not, and is recovered. Q's bit may be set wrongly from the beginning.
 *
 * Shown: when all have come to the end of their calls, a free object has its bit and can be found through
 * the hints, in a record that is open, a slab with no other object was given back, by one, with nobody's object
 * in it, and who has claimed an object has it.
 *
 * holds with DRAWS        Q draws
 * at length with DEPTH=2 WEAKER
 * at length with DEPTH=2 WEAKER DRAWS
 * fails with NO_LAST_LOOK   the claimer does not look again after clearing
 * fails with BITS_BY_STORE  bits are set by a plain store, and the hint is looked at before it arrives
 * fails with NEVER_TOLD     the freer does not look at the hint
 * fails with HINT_FIRST     the freer looks at the hint, then frees
 * fails with NO_FENCE       recovery looks at the bits before its stores to the words have arrived
 * fails with NO_RECOVERY    a dead client's bits and hints are not computed anew
 * fails with CLAIM_UNHELD   objects are claimed without the record
 * fails with OPEN_NO_HINT   who opens the record does not look at the hint
 * fails with OPEN_NO_LOOK   who opens the record does not look whether the slab is empty
 * fails with OPEN_BY_STORE  the record is opened by a plain store, and bits and hint are looked at before it arrives
 * fails with RETIRE_BLIND   an empty slab is given back as its bits say, its words are not looked at
 * fails with HOLD_KEPT      recovery does not open the record that the dead one held
 * fails with TAKE_OVER_UNHELD  recovery takes the whole slab without its record
 */
#define P 0
#define Q 1
#define C 2
#define R 3
#define PARTIES 4
#define PLACES 4 /* two words; the record's owner, which OPEN_BY_STORE needs here; bits, BITS_BY_STORE */
#define OWNER 2
#define BITS 3
#ifndef DEPTH
#define DEPTH 1
#endif
#include "memory.inc"

#define FREE 0
#define OF(client) ((client) + 1)	/* private */
#define LIVE 0
#define BUSY(client) ((client) + 1)
#define NO_RECORD 9

bool leaf, summary;
bool killed;
bool gone;		/* the slab was given back */
byte has[PARTIES];	/* objects, a bit each */

#define bits memory[BITS]
#define owner memory[OWNER]

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

/* One compare-and-swap. Of a slab that is gone the record is free, or another slab's. */
inline hold(p)
{
	atomic {
		STORES_ARRIVED(p);
		held = (owner == LIVE);
		if
		:: held -> owner = BUSY(p)
		:: else
		fi
	}
}

/* slab_open() */
inline open(p)
{
#ifdef OPEN_BY_STORE
	store_release(p, OWNER, LIVE);
#else
	store_seq_cst(p, OWNER, LIVE);
#endif
	held = false;
	if
	:: bits != 0 ->
#ifndef OPEN_NO_HINT
		hint_set(p);
#endif
		vacant = (bits == 3)
	:: bits == 0 -> vacant = false
	fi
#ifdef OPEN_NO_LOOK
	; vacant = false
#endif
}

inline end_slab(p)
{
	atomic {
		STORES_ARRIVED(p);
		assert(!gone && owner == BUSY(p));
		gone = true;
		owner = NO_RECORD
	}
}

/* If the slab looks empty. Tries again while it does. */
inline retire(p)
{
	do
	:: bits != 3 || gone -> break
	:: bits == 3 && !gone ->
		hold(p);
		if
		:: !held -> break
		:: held ->
			free = (LOAD(p, 0) == FREE);
			free = (free && LOAD(p, 1) == FREE);
#ifdef RETIRE_BLIND
			free = true;
#endif
			if
			:: free -> end_slab(p); break
			:: !free ->
				open(p);
				if
				:: vacant
				:: !vacant -> break
				fi
			fi
		fi
	od;
	free = 0;
	vacant = false;
	held = false
}

inline let_go(p)
{
	open(p);
	if
	:: vacant -> retire(p)
	:: !vacant
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

inline put(p, i)
{
#ifdef HINT_FIRST
	hint_set(p);
#endif
	atomic { has[p] = has[p] & ~(1 << i) };
	store_release(p, i, FREE);
#ifdef BITS_BY_STORE
	store(p, BITS, bits | (1 << i));
#else
	/* tell(): whoever set bits that were there before sees to the hint. */
	atomic { STORES_ARRIVED(p); told = (bits != 0); bits = bits | (1 << i) };
#endif
#ifdef NEVER_TOLD
	told = true;
#endif
#ifndef HINT_FIRST
	if
	:: told -> told = false
	:: !told -> hint_set(p)
	fi;
#endif
	retire(p)
}

/* claim_objects(), after its bit was taken off: nobody else changes a free word. */
inline draw_one(p, i)
{
	if
	:: (bits >> i) & 1 ->
		atomic { STORES_ARRIVED(p); bits = bits & ~(1 << i) };
		if
		:: LOAD(p, i) == FREE ->
			atomic { store_release(p, i, OF(p)); has[p] = has[p] | (1 << i); won = true }
		:: LOAD(p, i) != FREE
		fi
	:: !((bits >> i) & 1)
	fi
}

/* claim_from_slab(), for one object */
inline draw(p)
{
#ifdef CLAIM_UNHELD
	held = !gone;
#else
	hold(p);
#endif
	if
	:: held ->
		draw_one(p, 0);
		if
		:: !won -> draw_one(p, 1)
		:: won
		fi;
#ifdef CLAIM_UNHELD
		held = false
#else
		let_go(p)
#endif
	:: !held
	fi
}

/* Puts its object back, or keeps it; or Q draws. */
proctype owner_of(byte me)
{
	bool won, held, vacant, told;
	byte free;

	{
#ifdef DRAWS
		if
		:: me == P -> put(me, me)
		:: me == Q -> draw(me)
		fi
#else
		if
		:: put(me, me)
		:: true
		fi
#endif
	} unless { killed && me == Q }
}

proctype claimer(byte me)
{
	bool won, held, vacant;
	byte free;

	if
	:: leaf && summary ->
		draw(me);
		if
		:: won
		:: !won ->
			hint_clear(me);
#ifndef NO_LAST_LOOK
			draw(me);
			if
			:: won -> hint_set(me)
			:: !won
			fi
#endif
		fi
	:: true
	fi
}

/* inherit(), or slab_hold() */
inline hold_of_dead()
{
#ifdef HOLD_KEPT
	hold(me)
#else
	atomic {
		if
		:: owner == BUSY(Q) -> STORES_ARRIVED(me); owner = BUSY(me); held = true
		:: else -> hold(me)
		fi
	}
#endif
}

/* Whether the slab is Q's, where it has at least one object, and the others are free. */
inline take_over()
{
	free = (LOAD(me, 0) == OF(Q)) + 2 * (LOAD(me, 0) != OF(Q) && LOAD(me, 0) != FREE);
	atomic {
		won = (free < 2 && (LOAD(me, 1) == OF(Q) || (free == 1 && LOAD(me, 1) == FREE)));
		free = 0
	}
}

inline free_words()
{
	do
	:: i < 2 ->
		if
		:: memory[i] == OF(Q) -> store_release(me, i, FREE)
		:: else
		fi;
		i++
	:: i == 2 -> break
	od;
#ifndef NO_FENCE
	fence(me);
#endif
#ifndef NO_RECOVERY
	refresh_bits(me)
#endif
}

/* slab_recover() of Q, after its death is known. */
proctype recoverer(byte me)
{
	bool won, held, vacant;
	byte free, i;

end:	killed && STORES_ARRIVED(Q);
	if
	:: gone
	:: !gone ->
		hold_of_dead();
#ifdef TAKE_OVER_UNHELD
		take_over();
		if
		:: won -> atomic { gone = true; owner = NO_RECORD }
		:: !won -> skip
		fi;
#else
		if
		:: held -> take_over()
		:: !held
		fi;
		if
		:: won -> end_slab(me)
		:: !won
		fi;
#endif
		if
		:: won
		:: !won && held -> free_words(); let_go(me)
		:: !won && !held -> free_words(); retire(me)
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

#define FOUND(i) (memory[i] != FREE || (((bits >> i) & 1) && leaf && summary && owner == LIVE))
#define LIVES(p) ((p) != Q || !killed)
#define HAS(p, i) ((has[p] >> (i)) & 1)
/* Nobody but who has an object is its word's. */
#define IS_ITS(p, i) (!LIVES(p) || (HAS(p, i) == (memory[i] == OF(p))))

init {
	atomic {
		memory[0] = OF(P);
		memory[1] = OF(Q);
		has[P] = 1;
		has[Q] = 2;
		leaf = true;
		summary = true;
		if
		:: bits = 0
		:: bits = 2 /* of one who came late to the record's last slab */
		fi;
		run owner_of(P); run owner_of(Q); run claimer(C); run recoverer(R);
		run arrivals(P); run arrivals(Q); run arrivals(C); run arrivals(R)
	};
	timeout;
	assert(gone || (owner == LIVE && FOUND(0) && FOUND(1)));
	assert(gone || memory[0] != FREE || memory[1] != FREE);
	assert(!gone || (!has[P] && !has[C] && (killed || !has[Q])));
	assert(gone || (IS_ITS(P, 0) && IS_ITS(Q, 0) && IS_ITS(C, 0)));
	assert(gone || (IS_ITS(P, 1) && IS_ITS(Q, 1) && IS_ITS(C, 1)))
}
