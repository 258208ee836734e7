/*-------------------------------------------------------------------------
 *
 * multiply.c
 *	  Makes many of the first failure, client and certificate that a save file
 *	  has (src/work/save.c), for tests:
 *
 *	  multiply FILE NEWFILE N
 *
 * The keys of all are made different.
 *
 *-------------------------------------------------------------------------
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_SIZE	12			/* magic, length, CRC */

static unsigned char *from,
		   *end;
static FILE *out;
static uint32_t table[256];
static uint32_t crc = ~0U;
static uint32_t length = 0;

static void
put(const void *data, size_t len)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++)
		crc = table[(crc ^ p[i]) & 255] ^ (crc >> 8);
	length += (uint32_t) len;
	if (fwrite(data, 1, len, out) != len)
		exit(3);
}

/* Take bytes of the old file. */
static unsigned char *
take(size_t len)
{
	unsigned char *data = from;

	if (len > (size_t) (end - from))
	{
		fprintf(stderr, "the file is too short\n");
		exit(2);
	}
	from += len;
	return data;
}

static int32_t
take_int(void)
{
	int32_t		value;

	memcpy(&value, take(sizeof(value)), sizeof(value));
	put(&value, sizeof(value));
	return value;
}

/* A list of records of a size; the number of each is put where it matters. */
static void
multiply(int32_t size, int n, size_t where, int is_text)
{
	unsigned char *record = NULL;

	while (*take(1) != 0)
	{
		unsigned char *next = take(size);

		if (record == NULL)
			record = next;
	}
	if (record == NULL)
	{
		fprintf(stderr, "there is nothing to multiply\n");
		exit(2);
	}
	for (int i = 0; i < n; i++)
	{
		if (is_text)
			snprintf((char *) record + where, 16, "role%d", i);
		else
			memcpy(record + where, &i, sizeof(i));
		put("\1", 1);
		put(record, size);
	}
	put("", 1);
}

int
main(int argc, char **argv)
{
	FILE	   *in = argc == 4 ? fopen(argv[1], "rb") : NULL;
	static unsigned char file[16 * 1024 * 1024];
	unsigned char header[HEADER_SIZE];
	int			n;
	int32_t		size;

	if (in == NULL || (out = fopen(argv[2], "wb")) == NULL)
	{
		fprintf(stderr, "usage: multiply FILE NEWFILE N\n");
		return 1;
	}
	for (uint32_t i = 0; i < 256; i++)
	{
		table[i] = i;
		for (int bit = 0; bit < 8; bit++)
			table[i] = (table[i] >> 1) ^ ((table[i] & 1) != 0 ? 0x82f63b78 : 0);
	}
	n = atoi(argv[3]);
	from = file;
	end = file + fread(file, 1, sizeof(file), in);
	memcpy(header, take(HEADER_SIZE), HEADER_SIZE);
	fwrite(header, 1, HEADER_SIZE, out);

	/* failures, after a time and counters: the process ID differs */
	{
		int32_t		counters = take_int();

		size = take_int();
		put(take(8), 8);
		put(take(16 * (size_t) counters), 16 * (size_t) counters);
		multiply(size, n, 8, 0);
	}
	/* after a counter, clients: the role; certificates: the fingerprint */
	for (int is_client = 1; is_client >= 0; is_client--)
	{
		size = take_int();
		put(take(8), 8);
		multiply(size, n, 0, is_client);
	}

	crc = ~crc;
	memcpy(header + 4, &length, 4);
	memcpy(header + 8, &crc, 4);
	if (fseek(out, 0, SEEK_SET) != 0 ||
		fwrite(header, 1, HEADER_SIZE, out) != HEADER_SIZE || fclose(out) != 0)
		return 3;
	return 0;
}
