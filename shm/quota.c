/* SPDX-License-Identifier: Apache-2.0 */
#include "quota.h"

#include "client.h"
#include "pagemap.h"
#include "slab.h"

static uint64_t owned_in_slab(struct arena *a, uint64_t page, uint32_t client)
{
	struct slab_place p;
	uint64_t bytes = 0;

	if (slab_find(a, page << PAGE_SHIFT, &p) || p.head != page)
		return 0;
	for (uint32_t i = 0; i < sizeclass_table[p.kind].objects; i++) {
		uint32_t word = atomic_load_explicit(&p.record->words[i], memory_order_relaxed);

		if (state_owner(word) == client && state_kind(word) != OBJECT_INTERNAL)
			bytes += sizeclass_table[p.class].bytes;
	}
	return bytes;
}

static uint64_t owned_in_region(struct arena *a, uint64_t region, uint32_t client)
{
	uint64_t bytes = 0;

	for (uint64_t page = region * REGION_PAGES; page < (region + 1) * REGION_PAGES; page++) {
		uint64_t w0 = atomic_load_explicit(&a->pages[page].w0, memory_order_acquire);

		if (pw0_kind(w0) == PAGE_SLAB)
			bytes += owned_in_slab(a, page, client);
		else if (pw0_kind(w0) == PAGE_STACK && pw0_client(w0) == client)
			bytes += (uint64_t)REGION_PAGES << PAGE_SHIFT;
		else if (pw0_is_object(w0) && state_owner(pw0_state(w0)) == client)
			bytes += pw1_length(atomic_load_explicit(&a->pages[page].w1,
								 memory_order_relaxed))
				 << PAGE_SHIFT;
	}
	return bytes;
}

/* What this client's threads have drawn and not put back themselves. */
static int64_t drawn_by_threads(struct arena *a)
{
	_Atomic uint64_t *words = (_Atomic uint64_t *)(a->base + a->g.thread_words);
	uint32_t high = atomic_load_explicit(&a->header->threads_high, memory_order_acquire);
	int64_t bytes = 0;

	for (uint32_t i = 0; i < high && i < THREADS_MAX; i++) {
		uint64_t word = atomic_load_explicit(&words[i], memory_order_acquire);
		const struct thread_block *t = thread_word_client(word) == a->client
						       ? client_thread_block(a, word, a->client)
						       : NULL;

		if (t)
			bytes += atomic_load_explicit(&t->owned_bytes, memory_order_relaxed);
	}
	return bytes;
}

static uint64_t count_anew(struct arena *a)
{
	uint64_t bytes = 0, region = 0;

	while ((region = client_marks_next(a, a->client, region)) != CLIENT_NO_REGION)
		bytes += owned_in_region(a, region++, a->client);
	atomic_store_explicit(&client_record_at(a, a->client)->owned_bytes,
			      (int64_t)bytes - drawn_by_threads(a), memory_order_relaxed);
	return bytes;
}

static uint32_t room_for(uint64_t owned, uint64_t quota, uint64_t bytes, uint32_t want)
{
	uint64_t room = owned < quota ? (quota - owned) / bytes : 0;

	return room < want ? (uint32_t)room : want;
}

uint32_t quota_allows(struct arena *a, uint64_t bytes, uint32_t want)
{
	uint64_t quota = a->header->client_quota;
	uint32_t allowed;
	int64_t owned;

	if (!quota)
		return want;
	owned = client_owned(a, a->client) + drawn_by_threads(a);
	allowed = room_for(owned > 0 ? (uint64_t)owned : 0, quota, bytes, want);
	return allowed ? allowed : room_for(count_anew(a), quota, bytes, want);
}

void quota_settle(struct arena *a, struct thread_block *t)
{
	if (t->owed_bytes && t->owed_client < CLIENTS_MAX)
		client_owned_add(a, t->owed_client, -t->owed_bytes);
	t->owed_bytes = 0;
}

void quota_won_from(struct arena *a, struct thread_block *t, uint32_t from, uint64_t bytes)
{
	quota_settle(a, t);
	t->owed_client = from;
	quota_won(t, from, bytes);
	if (!a->header->client_quota)
		return;
	quota_settle(a, t);
	t->owed_client = 0; /* the next one comes here again */
}
