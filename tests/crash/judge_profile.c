/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle about the profile: what is shown of it is whole, whoever died while writing. */
#include "judge.h"
#include "profile.h"

static void look_at_stack(uint32_t site, const struct profile_stack *s)
{
	struct profile_binary b;

	if (!s->count)
		broken("site %u has no calls", site);
	for (uint32_t i = 0; i < s->count; i++) {
		if (s->modules[i] == PROFILE_NONE || !s->offsets[i])
			broken("call %u of site %u is nowhere", i, site);
		if (!profile_binary(&self->arena, s->modules[i], &b))
			broken("call %u of site %u has no module", i, site);
		if (b.path[0] != '/')
			broken("module %u has no path", s->modules[i]);
	}
}

void look_at_profile(void)
{
	struct profile_stack s;
	struct profile_object o;
	uint32_t at = 0;

	for (uint32_t site = 0; site < PROFILE_SITES; site++)
		if (profile_stack(&self->arena, site, &s))
			look_at_stack(site, &s);
	while (profile_next(&self->arena, &at, &o)) {
		if (o.rate < PROFILE_RATE_MIN || o.pid <= 0 || !o.time_ns)
			broken("sample of object %#llx makes no sense", NUMBER(o.handle));
		if (!profile_stack(&self->arena, o.site, &s))
			broken("sample of object %#llx has no site", NUMBER(o.handle));
		if (!shma_ptr(self, o.handle))
			broken("sample of object %#llx, which is gone", NUMBER(o.handle));
	}
}
