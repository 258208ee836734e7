/*
 * For tests: pg_tls_test_chains() walks through the whole arena of sent
 * certificates, raises an error if anything in it contradicts anything else,
 * and tells what it holds.
 *
 * It stands behind client/chain.c in a build for tests (TlsBuild.pm).
 */
#include "client/chain.c"

#include "fmgr.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(pg_tls_test_chains);

static int32
count_blocks(int32 first)
{
	int32		n = 0;

	for (int32 b = first; b != NONE; b = blocks[b].next)
	{
		if (b < 0 || b >= arena->nblocks || ++n > arena->nblocks)
			elog(ERROR, "broken list of blocks");
	}
	return n;
}

Datum
pg_tls_test_chains(PG_FUNCTION_ARGS)
{
	int32		count[2] = {0, 0};
	int32		references[2] = {0, 0};
	int32		free_objects = 0;
	int32		used_blocks = 0;
	int32		members = 0;
	int32		free_blocks;
	char	   *result;

	LWLockAcquire(arena->lock, LW_SHARED);
	for (int32 i = 0; i < arena->nbuckets; i++)
	{
		for (int32 n = buckets[i]; n != NONE; n = objects[n].next)
		{
			Object	   *object = &objects[n];
			int32		nblocks = count_blocks(object->first_block);

			if (n < 0 || n >= arena->nobjects || object->references <= 0 ||
				bucket_of(object->sha256) != &buckets[i] ||
				nblocks != (object->length + BLOCK_DATA - 1) / BLOCK_DATA)
				elog(ERROR, "broken object %d", n);
			count[object->kind]++;
			references[object->kind] += object->references;
			used_blocks += nblocks;
			if (object->kind == OBJECT_CHAIN)
				members += object->length / sizeof(int32);
			else
			{
				unsigned char *der = palloc(object->length);
				unsigned char digest[PGTLS_SHA256_LEN];

				read_object(object, der);
				if (!EVP_Digest(der, object->length, digest, NULL,
								EVP_sha256(), NULL) ||
					memcmp(digest, object->sha256, sizeof(digest)) != 0)
					elog(ERROR, "certificate %d is damaged", n);
			}
		}
	}
	for (int32 n = arena->free_object; n != NONE; n = objects[n].next)
		free_objects++;
	free_blocks = count_blocks(arena->free_block);

	if (free_objects + count[0] + count[1] != arena->nobjects ||
		free_blocks != arena->blocks_free ||
		free_blocks + used_blocks != arena->nblocks ||
		members != references[OBJECT_CERTIFICATE])
		elog(ERROR, "the arena does not add up");
	LWLockRelease(arena->lock);

	result = psprintf("%d certificates, %d chains of %d sessions, "
					  UINT64_FORMAT " refused",
					  count[OBJECT_CERTIFICATE], count[OBJECT_CHAIN],
					  references[OBJECT_CHAIN], arena->refused);
	PG_RETURN_TEXT_P(cstring_to_text(result));
}
