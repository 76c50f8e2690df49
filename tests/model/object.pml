/* SPDX-License-Identifier: Apache-2.0 */
/*
 * object.pml - one object of a slab between clients that take, free and die, and the recoverer.
 *
 * Models slab_hold(), claim_objects(), slab_open(), slab_put() and free_word() of slabs, object_alloc_fast(), object_offer_fast() and
 * object_free_fast(), object_word_find_live(), claim_to_free(), share() and take() of objects, put_oldest()
 * of caches, client_mark() before each of them, and recover_region().
 * Any client may call with any handle that was ever given out. Client 1 may be killed at any step, its
 * recoverer too; after recovery its number is given to another process. Each step is one access of the
 * state word or the record's owner: those that change hands are locked instructions, the plain stores go to
 * words that nobody else may change. A free word is for who holds the slab's record.
 *
 * Shown: of takers, freers and the reclaim of one offer exactly one wins; who has an object to itself has
 * it until it gives it up; no handle is given out twice; at the end the object is free and can be found, or
 * a living client has it; and nobody holds the record.
 *
 * at length with GENS=4
 * fails with TAKE_BY_STORE     taking looks, then stores
 * fails with FREE_BY_STORE     freeing a shared object looks, then stores
 * fails with RECLAIM_BY_STORE  the recoverer stores over shared words, too
 * fails with FREE_KEEPS_GEN    a free object's old handles stay good
 * fails with RECLAIM_KEEPS_GEN … those of a dead client's object
 * fails with MARK_LATER        the region is marked after the object was taken
 * fails with ANY_CLIENT        freeing looks at kind and generation only
 * fails with CLAIM_UNHELD      a free object is claimed without the record
 * fails with HOLD_KEPT         recovery does not open the record that the dead one held
 */
#ifndef GENS
#define GENS 3 /* at most 4; they do not wrap here */
#endif
#ifndef CLIENTS
#define CLIENTS 2
#endif

#define FREE 0
#define PRIVATE 1
#define TAKEN 2
#define SHARED 3
#define MAKE(kind, client, gen) ((kind) + 4 * (client) + 16 * (gen))
#define KIND(word) ((word) & 3)
#define CLIENT(word) ((word) >> 2 & 3)
#define GEN(word) ((word) >> 4)
#define OWNED(word, client) (KIND(word) != FREE && CLIENT(word) == (client))

byte word;
bool listed = true;	/* of the slab's bitmap */
byte holder;		/* of the record; 0: it is open */
#define HEIR 7
bool mark[CLIENTS + 1];		/* of the region, by client */
byte cache[CLIENTS + 1];	/* the array: generation + 1, or 0 */
bool given[5];			/* handles that programs know */
bool killed[CLIENTS + 1], gone, recoverer_killed;

/* What no program sees. */
bool offered;			/* nobody has won it yet */
byte alone[CLIENTS + 1];	/* who has an object to itself: generation + 1 */

#ifdef FREE_KEEPS_GEN
#define NEXT(gen) (gen)
#else
#define NEXT(gen) ((gen) + 1)
#endif

#ifdef RECLAIM_KEEPS_GEN
#define RECLAIMED(gen) (gen)
#else
#define RECLAIMED(gen) ((gen) + 1)
#endif

#ifdef ANY_CLIENT
#define MINE_ALONE(word) (KIND(word) == PRIVATE || KIND(word) == TAKEN)
#else
#define MINE_ALONE(word) ((KIND(word) == PRIVATE || KIND(word) == TAKEN) && CLIENT(word) == me)
#endif

/* One compare-and-swap of the state word, from seen. Inside atomic. */
inline change(to)
{
	if
	:: word == seen -> word = to; won = true
	:: word != seen -> won = false
	fi
}

inline win(from)
{
	if
	:: KIND(from) == SHARED -> assert(offered); offered = false
	:: else
	fi
}

/* Any handle that a program may have kept. Inside atomic. */
inline any_handle()
{
	if
	:: given[0] -> g = 0
	:: given[1] -> g = 1
	:: given[2] -> g = 2
	:: given[3] -> g = 3
	:: else -> goto next
	fi
}

proctype client(byte me)
{
	byte seen, g;
	bool won;

	{
		do
		/* claim_from_slab(), claim_objects() */
		:: atomic { cache[me] == 0 && alone[me] == 0 && listed -> skip };
#ifndef MARK_LATER
			mark[me] = true;
#endif
#ifndef CLAIM_UNHELD
			atomic {
				if
				:: holder == 0 -> holder = me
				:: else -> goto next
				fi
			};
#endif
			/* Two steps: only who holds the record takes bits off. */
			if
			:: listed -> listed = false
			:: else -> goto opened
			fi;
			seen = word;
			if
			:: KIND(seen) != FREE -> goto opened
			:: KIND(seen) == FREE
			fi;
			word = MAKE(PRIVATE, me, GEN(seen));
#ifdef MARK_LATER
			mark[me] = true;
#endif
			cache[me] = GEN(seen) + 1;
opened:
#ifndef CLAIM_UNHELD
			atomic { assert(holder == me); holder = 0 };
#endif
			goto next
		/* object_alloc_fast(): the program has it to itself */
		:: atomic {
			cache[me] != 0 ->
			g = cache[me] - 1;
			cache[me] = 0;
			assert(word == MAKE(PRIVATE, me, g));
			assert(!given[g]); /* no handle is given out twice */
			given[g] = true;
			alone[me] = g + 1;
			goto next
		   }
		/* object_offer_fast(), share() */
		:: atomic {
			alone[me] != 0 ->
			assert(word == MAKE(PRIVATE, me, alone[me] - 1) ||
			       word == MAKE(TAKEN, me, alone[me] - 1));
			word = MAKE(SHARED, me, alone[me] - 1);
			alone[me] = 0;
			offered = true
		   }
		/* take() */
		:: atomic { any_handle(); seen = word };
			if
			:: KIND(seen) != SHARED || GEN(seen) != g -> goto next
			:: else
			fi;
#ifndef MARK_LATER
			mark[me] = true;
#endif
			atomic {
#ifdef TAKE_BY_STORE
				word = MAKE(TAKEN, me, g); won = true;
#else
				change(MAKE(TAKEN, me, g));
#endif
				if
				:: won -> win(seen); alone[me] = g + 1
				:: else
				fi
			};
#ifdef MARK_LATER
			mark[me] = true;
#endif
			goto next
		/* object_free_fast(), and claim_to_free() for what it does not do */
		:: atomic { cache[me] == 0 -> any_handle(); seen = word };
			if
			:: GEN(seen) != g || g + 1 == GENS -> goto next
			:: else
			fi;
			if
			:: MINE_ALONE(seen) ->
				atomic {
					assert(word == seen && alone[me] == g + 1);
					alone[me] = 0;
					word = MAKE(PRIVATE, me, NEXT(g))
				};
				cache[me] = NEXT(g) + 1
			:: KIND(seen) == SHARED ->
#ifndef MARK_LATER
				mark[me] = true;
#endif
				atomic {
#ifdef FREE_BY_STORE
					word = MAKE(PRIVATE, me, NEXT(g)); won = true;
#else
					change(MAKE(PRIVATE, me, NEXT(g)));
#endif
					if
					:: won -> win(seen)
					:: else -> goto next
					fi
				};
#ifdef MARK_LATER
				mark[me] = true;
#endif
				cache[me] = NEXT(g) + 1
			:: else
			fi;
			goto next
		/* put_oldest(), slab_put() */
		:: atomic { cache[me] != 0 -> g = cache[me] - 1; cache[me] = 0 };
			assert(word == MAKE(PRIVATE, me, g));
			word = MAKE(FREE, 0, g);
			listed = true;
next:			atomic { seen = 0; g = 0; won = false }
		:: true -> break
		od
	} unless { killed[me] -> gone = true }
}

/* recover_region() of client 1, by inherit() or slab_hold(), free_word() and refresh_bits(), whoever holds the
 * record; then the mark goes. A killed recoverer's record is inherited likewise. */
inline recover()
{
	if
	:: mark[1] ->
#ifndef HOLD_KEPT
		atomic {
			if
			:: holder == 0 || holder == 1 || holder == HEIR -> holder = HEIR
			:: else
			fi
		};
#endif
		do
		:: seen = word;
			if
			:: !OWNED(seen, 1) -> break
			:: OWNED(seen, 1) && KIND(seen) != SHARED ->
				atomic {
					/* Nobody but its heir touches it. */
					assert(word == seen);
					word = MAKE(FREE, 0, RECLAIMED(GEN(seen)));
					break
				}
			:: OWNED(seen, 1) && KIND(seen) == SHARED ->
				atomic {
#ifdef RECLAIM_BY_STORE
					word = MAKE(FREE, 0, RECLAIMED(GEN(seen))); won = true;
#else
					change(MAKE(FREE, 0, RECLAIMED(GEN(seen))));
#endif
					if
					:: won -> win(seen); break
					:: else
					fi
				}
			fi
		od;
		if
		:: KIND(word) == FREE -> listed = true
		:: else
		fi;
		atomic {
			if
			:: holder == HEIR -> holder = 0
			:: else
			fi
		};
		mark[1] = false
	:: !mark[1]
	fi;
	seen = 0;
	won = false
}

proctype recoverer()
{
	byte seen;
	bool won;

end:	killed[1] && gone;
	{ recover() } unless { recoverer_killed };
	if
	:: recoverer_killed -> seen = 0; won = false; recover()
	:: !recoverer_killed
	fi;
	/* The number's next bearer. */
	atomic {
		assert(!OWNED(word, 1) && holder != 1 && holder != HEIR);
		cache[1] = 0;
		alone[1] = 0;
		killed[1] = false;
		run client(1)
	}
}

active proctype killer()
{
	if
	:: killed[1] = true;
		if
		:: recoverer_killed = true
		:: skip
		fi
	:: skip
	fi
}

/* The client has the object as the word says, and can find it. */
#define HAS(c) (OWNED(word, c) && (alone[c] == GEN(word) + 1 || cache[c] == GEN(word) + 1 || \
	(KIND(word) == SHARED && offered && given[GEN(word)])))

init {
	atomic {
		run recoverer();
		run client(1); run client(2);
#if CLIENTS > 2
		run client(3)
#endif
	};
	timeout;
	assert(holder == 0);
#if CLIENTS > 2
	assert((KIND(word) == FREE && listed) || HAS(1) || HAS(2) || HAS(3))
#else
	assert((KIND(word) == FREE && listed) || HAS(1) || HAS(2))
#endif
}
