/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring_bell.pml - a reader sleeps until there is a record; writers pay no fence for it.
 *
 * Models ring_bell_ring(), ring_bell_wake(), ring_bell_arm(), ring_bell_sleep(), sleep_until_rung() and
 * the commit in publish(). Two writers, whose stores arrive late and who may be killed anywhere; two
 * readers. The longest sleep is left out: nothing may depend on it but what a killed writer left.
 *
 * Shown: nobody sleeps over a record whose writer came to the end of its call.
 *
 * at length with TWO_READERS who overwrite each other's token
 * fails with NO_BARRIER      the reader arms without a barrier in the writers
 * fails with NO_SECOND_LOOK  it sleeps without having looked after arming
 * fails with TOKENS_IN_PAIRS two successive arms may leave the same token
 * fails with DISARM_BLINDLY  the waking writer clears whatever token is there
 * fails with WAKE_ONLY       it wakes without counting, so that one about to sleep is missed
 */
#define WRITERS 2
#ifdef TWO_READERS
#define READERS 2
#define RECORDS 1
#else
#define READERS 1
#define RECORDS 2
#endif

#define PARTIES WRITERS
#define PLACES WRITERS /* committed, of each writer's block */
#define DEPTH 1
#include "memory.inc"

byte armed, rings; /* changed by locked instructions only */
byte answering[WRITERS]; /* the token that a waking writer has seen */
#ifdef TOKENS_IN_PAIRS
byte last; bool again;
#endif
bool asleep[READERS];
bool killed;

typedef counts { byte from[WRITERS] };
counts seen[READERS];
byte finished[WRITERS]; /* records whose call has come to its end */

inline wake_all()
{
	asleep[0] = false;
	asleep[READERS - 1] = false
}

/* Tokens are only compared with each other: the least one not in use is as good as the next. */
#define IN_USE(t) (armed == t || answering[0] == t || answering[1] == t)
inline fresh_token(t)
{
	t = 1;
	do
	:: IN_USE(t) -> t++
	:: else -> break
	od
}

proctype writer(byte me)
{
	byte n;

	{
		do
		:: n == RECORDS -> break
		:: atomic {
			n < RECORDS && STORES_ARRIVED(me) ->
			n++;
			store_release(me, me, n)
		   };
			if
			:: atomic { armed == 0 -> finished[me] = n }
			:: atomic { armed != 0 -> answering[me] = armed };
#ifndef WAKE_ONLY
				atomic { STORES_ARRIVED(me); rings++ };
#endif
				atomic { wake_all() };
				atomic {
					STORES_ARRIVED(me);
					if
#ifdef DISARM_BLINDLY
					:: armed = 0
#else
					:: armed == answering[me] -> armed = 0
#endif
					:: armed != answering[me]
					fi;
					answering[me] = 0;
					finished[me] = n
				}
			fi
		od
	} unless { killed && me == 0 }
}

/* A look at one writer's block. */
inline look(w)
{
	news = news || seen[me].from[w] != memory[w];
	seen[me].from[w] = memory[w]
}

proctype reader(byte me)
{
	byte before, token;
	bool news;

	do
	:: atomic { news = false; look(0) };
		atomic {
			look(1);
			if
			:: news -> goto next
			:: else
			fi
		};
		before = rings;
		/* ring_bell_arm() */
		atomic {
#ifdef TOKENS_IN_PAIRS
			if
			:: again -> token = last
			:: else -> fresh_token(token)
			fi;
			last = token;
			again = !again;
#else
			fresh_token(token);
#endif
			armed = token;
			token = 0
		};
#ifndef NO_BARRIER
		STORES_ARRIVED(0);
		STORES_ARRIVED(1);
#endif
#ifndef NO_SECOND_LOOK
		look(0);
		atomic {
			look(1);
			if
			:: news -> goto next
			:: else
			fi
		};
#endif
		/* The kernel compares and sleeps in one. */
		atomic {
			if
			:: rings == before -> asleep[me] = true
			:: rings != before -> goto next
			fi
		};
end:		atomic {
			!asleep[me];
next:			before = 0;
			news = false
		}
	od
}

active proctype killer()
{
	if
	:: killed = true
	:: skip
	fi
}

init {
	byte r;

	atomic {
		run writer(0); run writer(1);
		run arrivals(0); run arrivals(1);
		run reader(0);
#if READERS > 1
		run reader(1)
#endif
	};
	timeout;
	d_step {
		do
		:: r < READERS ->
			assert(!asleep[r] || seen[r].from[0] >= finished[0]);
			assert(!asleep[r] || seen[r].from[1] >= finished[1]);
			r++
		:: else -> break
		od
	}
}
