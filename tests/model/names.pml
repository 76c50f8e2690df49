/* SPDX-License-Identifier: Apache-2.0 */
/*
 * names.pml - two publishers of one name, somebody who unpublishes it, and the dead.
 *
 * Models names_publish() with reserve(), claim(), look_at(), become_only_one() and give_up(),
 * names_unpublish() with counts_as_published(), begin_unpublish() and finish_unpublish(), settled() and
 * names_recover() (names.c), object_publish_word() and object_unpublish_word(). P and Q have an entry and
 * an object each; P may be killed at any step and is recovered; all may stop for as long as they like. All
 * words are changed by compare-and-swap in one order for all.
 *
 * Shown: at most one entry is committed, live or unpublishing; at the end no entry is on its way, a name
 * is live exactly if its object is published; if nobody dies or unpublishes, one of the two succeeds.
 *
 * fails with LOOK_FIRST      a claimant looks at the others before it claims
 * fails with NO_ABORT        a claimed rival is taken for no rival
 * fails with COMMIT_BLINDLY  the commit is a store
 * fails with DROP_COMMITTED  recovery frees what was committed
 * fails with KEEP_COMMITTED  recovery makes it live
 * fails with OBJECT_FIRST    the object is published before its name is committed
 */
#define NOBODY 0
#define P 1
#define Q 2
#define U 3

#define FREE 0
#define RESERVED 1
#define CLAIMED 2
#define ABORTED 3
#define COMMITTED 4
#define LIVE 5
#define UNPUBLISHING 6
#define MAKE(state, client, change) ((state) + 8 * (client) + 32 * (change))
#define STATE(word) ((word) & 7)
#define CLIENT(word) ((word) >> 3 & 3)
#define CHANGE(word) ((word) >> 5)
#define WITH(word, state, client) MAKE(state, client, CHANGE(word))
#define COMPLETE(word) (STATE(word) >= CLAIMED)
#define SAME_TENURE(x, y) (COMPLETE(x) && COMPLETE(y) && CHANGE(x) == CHANGE(y))

#define ROUNDS 4
#define ROUNDS_EQUAL 1

byte word[2];
/* By entry: its client's object; each keeps its place. */
#define MINE 0
#define PUBLISHED 1
#define RETURNED 2
byte object[2];

bool killed, unpublished, success[2];

/* Invariant U. */
#define TAKEN(i) (STATE(word[i]) >= COMMITTED)

inline swap(i, from, to)
{
	atomic {
		if
		:: word[i] == from -> word[i] = to; won = true
		:: word[i] != from -> won = false
		fi;
		assert(!TAKEN(0) || !TAKEN(1))
	}
}

/* look_at() the other's entry, until its word stands still. */
inline look_at_other()
{
	other = 1 - i;
	do
	:: true ->
		seen = word[other];
		if
		:: !COMPLETE(seen) || STATE(seen) == ABORTED -> break
		:: else
		fi;
		/* read_entry(): of another tenure, it began after our claim. */
		if
		:: !SAME_TENURE(seen, word[other]) -> break
		:: else
		fi;
		if
		:: STATE(seen) == CLAIMED && round >= ROUNDS_EQUAL && other < i -> conflict = true; break
		:: STATE(seen) == CLAIMED && (round < ROUNDS_EQUAL || other > i) ->
#ifdef NO_ABORT
			break
#else
			swap(other, seen, WITH(seen, ABORTED, CLIENT(seen)));
			if
			:: won -> break
			:: !won
			fi
#endif
		:: STATE(seen) == UNPUBLISHING && object[other] != PUBLISHED ->
			swap(other, seen, WITH(seen, FREE, NOBODY));
			if
			:: won -> break
			:: !won
			fi
		:: STATE(seen) == UNPUBLISHING && object[other] == PUBLISHED -> conflict = true; break
		:: STATE(seen) == COMMITTED || STATE(seen) == LIVE -> conflict = true; break
		fi
	od;
	seen = 0
}

proctype publisher(byte me)
{
	byte i = me - P, mine, seen, other, round;
	bool won, conflict;

	{
		/* reserve() */
		mine = MAKE(RESERVED, me, CHANGE(word[i]) + 1);
		swap(i, word[i], mine);
		assert(won);
#ifdef OBJECT_FIRST
		object[i] = PUBLISHED;
#endif
		/* become_only_one() */
		do
		:: round < ROUNDS ->
#ifdef LOOK_FIRST
			look_at_other();
#endif
			seen = word[i];
			mine = MAKE(CLAIMED, me, CHANGE(seen) + (STATE(seen) == ABORTED));
			swap(i, seen, mine);
			seen = 0;
#ifndef LOOK_FIRST
			if
			:: won -> look_at_other()
			:: !won
			fi;
#endif
			if
			:: conflict -> goto give_up
			:: else
			fi;
#ifdef COMMIT_BLINDLY
			atomic { word[i] = WITH(mine, COMMITTED, me); won = true; assert(!TAKEN(0) || !TAKEN(1)) };
#else
			swap(i, mine, WITH(mine, COMMITTED, me));
#endif
			if
			:: won -> mine = WITH(mine, COMMITTED, me); break
			:: !won
			fi;
			round++
		:: round == ROUNDS -> goto give_up
		od;
		object[i] = PUBLISHED;
		/* Fails if somebody has helped. */
		swap(i, mine, WITH(mine, LIVE, NOBODY));
		success[i] = true;
		goto out;
give_up:
		do
		:: true ->
			seen = word[i];
			if
			:: CLIENT(seen) != me -> break
			:: else
			fi;
			swap(i, seen, WITH(seen, FREE, NOBODY));
			if
			:: won -> break
			:: !won
			fi
		od;
out:
		skip
	} unless { killed && me == P }
}

/* Finds the name in either entry, as names_unpublish() does. */
proctype unpublisher()
{
	byte i, seen;
	bool won;

	if
	:: i = 0
	:: i = 1
	:: goto out
	fi;
	seen = word[i];
	if
	:: STATE(seen) < COMMITTED -> goto out
	:: else
	fi;
	if
	:: STATE(seen) != LIVE && object[i] != PUBLISHED ->
		if
		:: STATE(seen) == UNPUBLISHING -> swap(i, seen, WITH(seen, FREE, NOBODY))
		:: else
		fi;
		goto out
	:: else
	fi;
	if
	:: STATE(seen) != LIVE && !SAME_TENURE(seen, word[i]) -> goto out
	:: STATE(seen) == UNPUBLISHING -> goto out
	:: else
	fi;
	/* begin_unpublish() */
	if
	:: STATE(seen) == COMMITTED ->
		swap(i, seen, WITH(seen, LIVE, NOBODY));
		seen = WITH(seen, LIVE, NOBODY)
	:: else
	fi;
	swap(i, seen, WITH(seen, UNPUBLISHING, U));
	if
	:: !won -> goto out
	:: won
	fi;
	seen = WITH(seen, UNPUBLISHING, U);
	/* finish_unpublish() */
	atomic {
		assert(object[i] == PUBLISHED);
		object[i] = RETURNED;
		unpublished = true
	};
	swap(i, seen, WITH(seen, FREE, NOBODY));
out:
	skip
}

/* names_recover() of P, then the return of its objects. */
proctype recoverer()
{
	byte seen, i;
	bool won;

end:	killed;
	do
	:: i < 2 ->
		seen = word[i];
		if
		:: CLIENT(seen) != P || STATE(seen) == FREE || STATE(seen) == LIVE -> i++
#ifdef DROP_COMMITTED
		:: else -> swap(i, seen, WITH(seen, FREE, NOBODY))
#else
		:: else ->
			if
			:: STATE(seen) != COMMITTED && STATE(seen) != UNPUBLISHING ->
				swap(i, seen, WITH(seen, FREE, NOBODY))
#ifdef KEEP_COMMITTED
			:: STATE(seen) == COMMITTED -> swap(i, seen, WITH(seen, LIVE, NOBODY))
#else
			:: (STATE(seen) == COMMITTED || STATE(seen) == UNPUBLISHING) && object[i] == PUBLISHED ->
				swap(i, seen, WITH(seen, LIVE, NOBODY))
			:: (STATE(seen) == COMMITTED || STATE(seen) == UNPUBLISHING) && object[i] != PUBLISHED ->
				swap(i, seen, WITH(seen, FREE, NOBODY))
#endif
			fi
#endif
		fi
	:: i == 2 -> break
	od;
	atomic {
		if
		:: object[0] == MINE -> object[0] = RETURNED
		:: else
		fi
	}
}

active proctype killer()
{
	if
	:: killed = true
	:: skip
	fi
}

init {
	atomic {
		run publisher(P); run publisher(Q);
		run unpublisher();
		run recoverer()
	};
	timeout;
	assert(STATE(word[0]) == FREE || STATE(word[0]) == LIVE);
	assert(STATE(word[1]) == FREE || STATE(word[1]) == LIVE);
	assert((STATE(word[0]) == LIVE) == (object[0] == PUBLISHED));
	assert((STATE(word[1]) == LIVE) == (object[1] == PUBLISHED));
	assert(killed || unpublished || success[0] || success[1])
}
