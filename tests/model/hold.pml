/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hold.pml - an object that several clients hold: retain against the last release, one killed in the middle, its
 * recovery, which is killed as well; and a latecomer with the handle of the object before.
 *
 * Models hold_retain() from find_slot() on with count_up(), confirm() and count_down(), hold_release(), hold_settle()
 * and hold_end() (hold.c), recover_record() and inherit_end() (hold_recover.c), begin() where the record is used again.
 * One record with a slot for each client; slots and head change by compare-and-swap, loads are in order. P holds the object from
 * the beginning and releases it. Q retains it, uses it, releases it; at any step it may be killed. L read the record's
 * place when it was this object's, retains it at any time and, if it got it, uses and releases it. When the object is
 * gone, P may make another that has the same record, hold it and release it. R recovers Q, and may be killed at any
 * step; S recovers both.
 *
 * Shown: nobody who holds an object sees it freed; it is freed once; when all have come to their ends and the dead are
 * recovered, the object is freed, the record is free and no slot is taken.
 *
 * at length with KILLED_TWICE   R is killed as well, and S recovers both
 * holds with LATE           a latecomer, and P uses the record again; nobody is killed
 * fails with NO_LOOK_AGAIN   the releaser ends a record without DYING: its slots are looked at once
 * fails with HEAD_FIRST      the retainer looks at the head, then takes its slot
 * fails with NO_REVIVE       who finds DYING believes that its slot is seen
 * fails with LATE NO_VERSION  a head has no version: it is the same word each time
 * fails with LATE NO_HANDLE  the retainer does not compare the handle
 * fails with LATE NO_SETTLE_LATE  a hold that came too late is taken back, the record not settled
 * fails with NO_SETTLE_DEAD  recovery drops slots and does not settle
 * fails with ENDING_LOST     recovery does not finish what the dead one was ending
 */
#define P 0
#define Q 1
#define L 2
#define R 3
#define S 4
#define CLIENTS 3 /* that have slots */

mtype = { FREE, NEW, LIVE, DYING, ENDING };

/* The head word: state, client, version. Versions are counted as far as they tell two apart here. */
mtype head = LIVE;
byte ender, version;
byte handle = 1;	/* of the record */
bool slot[CLIENTS];
byte freed[3];		/* times, by handle */
bool held[3];		/* objects, as their words say */
bool alive[5] = true;
bool done[5];
byte relies[CLIENTS];	/* on which object */

#ifdef NO_VERSION
#define STEP
#else
#define STEP version++;
#endif
/* As far as they are ever compared. */
#define SAME(h, v) (head == h && version == v)

#define RELIED_ON(h) (relies[P] == h || relies[L] == h || (relies[Q] == h && alive[Q]))

/* hold_swap(): from what was seen; ok. */
inline swap_head(from, v, to, me)
{
	atomic {
		if
		:: SAME(from, v) -> head = to; ender = me; STEP ok = true
		:: else -> ok = false
		fi
	}
}

/* free_object(): the object's word is the truth. */
inline end_object(me)
{
	atomic {
		h = handle;
		if
		:: held[h] -> held[h] = false; freed[h]++; assert(!RELIED_ON(h))
		:: else
		fi
	}
	d_step { seen = head; v = version };
	swap_head(ENDING, v, FREE, 0)
}

inline look_at_slots()
{
	i = 0;
	none_taken = true;
	do
	:: i < CLIENTS && none_taken -> none_taken = !slot[i]; i++
	:: else -> break
	od
}

inline forget()
{
	d_step { seen = FREE; v = 0; i = 0; h = 0; ok = false; none_taken = false }
}

inline settle(me)
{
	do
	:: true ->
		d_step { seen = head; v = version };
		if
		:: seen == LIVE ->
			look_at_slots();
			if
			:: !none_taken -> break
			:: else
			fi;
#ifdef NO_LOOK_AGAIN
			swap_head(LIVE, v, ENDING, me);
			if
			:: ok -> end_object(me); break
			:: else
			fi
#else
			swap_head(LIVE, v, DYING, 0)
#endif
		:: seen == DYING ->
			look_at_slots();
			if
			:: none_taken ->
				swap_head(DYING, v, ENDING, me);
				if
				:: ok -> end_object(me); break
				:: else
				fi
			:: else ->
				swap_head(DYING, v, LIVE, 0);
			fi
		:: else -> break
		fi
	od;
	forget()
}

/* confirm(); got. */
inline confirm(me, want)
{
	got = false;
	do
	:: true ->
		d_step { seen = head; v = version };
		if
		:: seen != LIVE && seen != DYING -> break
		:: else
		fi;
#ifndef NO_HANDLE
		if
		:: handle != want -> break
		:: else
		fi;
#endif
		if
		:: seen == LIVE -> got = true; break
		:: else ->
#ifdef NO_REVIVE
			got = true; break
#else
			swap_head(DYING, v, LIVE, 0);
			if
			:: ok -> got = true; break
			:: else
			fi
#endif
		fi
	od;
	forget()
}

/* got: it is held, and relied upon from the return on. */
inline retain(me, want)
{
#ifdef HEAD_FIRST
	confirm(me, want);
	if
	:: got -> slot[me] = true
	:: else
	fi;
#else
	slot[me] = true;
	confirm(me, want);
	if
	:: !got ->
		slot[me] = false;
#ifndef NO_SETTLE_LATE
		settle(me)
#endif
	:: else
	fi;
#endif
	atomic {
		if
		:: got -> assert(freed[want] == 0); relies[me] = want
		:: else
		fi
	}
}

inline release(me, want)
{
	atomic { assert(freed[want] == 0); relies[me] = 0 };
	slot[me] = false;
	settle(me)
}

#define LOCALS mtype seen; byte v, i, h; bool ok, none_taken, got

/* P's second object may have the same record, if that is free. */
proctype first()
{
	LOCALS;
	release(P, 1);
#ifdef LATE
	if
	:: head == FREE ->
		d_step { seen = head; v = version };
		swap_head(FREE, v, NEW, P);
		if
		:: ok && seen == FREE ->
			handle = 2;
			slot[P] = true;
			d_step { seen = head; v = version };
			swap_head(NEW, v, LIVE, 0);
			atomic { held[2] = true; relies[P] = 2 };
			release(P, 2)
		:: else
		fi
	:: true
	fi;
#endif
	done[P] = true
}

proctype killed_one()
{
	LOCALS;
	{
		retain(Q, 1);
		if
		:: got -> release(Q, 1)
		:: else
		fi;
		done[Q] = true
	} unless {
		!alive[Q]
	}
}

proctype late()
{
	LOCALS;
	retain(L, 1);
	if
	:: got -> release(L, 1)
	:: else
	fi;
	done[L] = true
}

/* recover_record() of a dead client. */
inline recover(me, dead)
{
	if
	:: dead < CLIENTS -> slot[dead] = false
	:: else
	fi;
	d_step { seen = head; v = version };
	if
	:: seen == ENDING && ender == dead ->
#ifndef ENDING_LOST
		swap_head(ENDING, v, ENDING, me);
		if
		:: ok -> end_object(me)
		:: else
		fi
#endif
#ifndef NO_SETTLE_DEAD
	:: seen == LIVE || seen == DYING -> settle(me)
#endif
	:: else
	fi;
	forget()
}

proctype recoverer()
{
	LOCALS;
end:
	!alive[Q];
	{
		recover(R, Q);
		done[R] = true
	} unless {
		!alive[R]
	}
}

proctype successor()
{
	LOCALS;
end:
	!alive[R];
	recover(S, Q);
	recover(S, R);
	done[S] = true
}

proctype killer()
{
	if
	:: atomic { !done[Q] -> alive[Q] = false };
#ifdef KILLED_TWICE
		if
		:: atomic { !done[R] -> alive[R] = false }
		:: true
		fi
#else
		skip
#endif
	:: true
	fi
}

init {
	atomic {
		held[1] = true;
		slot[P] = true;
		relies[P] = 1;
		run first();
		run killed_one();
#ifdef LATE
		run late()
#else
		done[L] = true;
		run recoverer();
#ifdef KILLED_TWICE
		run successor();
#endif
		run killer()
#endif
	};
	done[P] && done[L] && (done[Q] || done[R] || done[S]) && (done[R] || done[S] || alive[Q]);
	assert(head == FREE);
	assert(!slot[P] && !slot[Q] && !slot[L]);
	assert(!held[1] && freed[1] == 1);
	assert(!held[2] && freed[2] <= 1)
}
