/* SPDX-License-Identifier: Apache-2.0 */
/* The public calls on objects that several processes hold. */
#include <errno.h>

#include "attach.h"
#include "debug_calls.h"
#include "hold.h"
#include "object.h"
#include "recovery.h"

int shma_retain(shma *s, shma_handle h)
{
	uint32_t owner = 0;
	int r = hold_retain(&s->arena, h);

	/* Its owner is dead, and so is the object, only nobody has told so yet. */
	if (r == -EPERM && object_kind_of(&s->arena, h, &owner) != OBJECT_FREE && owner &&
	    recovery_of(&s->arena, owner, handle_offset(h)))
		r = hold_retain(&s->arena, h);
	return (int)debug_calls_end(s, h, DEBUG_CALL_RETAIN, r);
}

int shma_release(shma *s, shma_handle h)
{
	return (int)debug_calls_end(s, h, DEBUG_CALL_RELEASE, hold_release(&s->arena, h));
}
