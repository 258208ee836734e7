/*
 * Many clients in one process: clients PORT
 *
 * Reads commands, a line each, and answers each with a line:
 *
 *	keep NAME FILE VERSION	connect as postgres, and stay connected
 *	try NAME FILE VERSION	connect as nobody_else, until the server asks for a
 *							password: TLS has let us in by then
 *
 * FILE has the private key, the client's certificate, and what is to be sent
 * after that.  VERSION is 1.2 or 1.3.
 *
 * Answers are fields with tabs between: NAME; in, refused or lost; the alert or
 * error; the local port; the backend's process ID (keep) or 0; version and
 * cipher; how many certificates the server sent; a hash of its messages that
 * do not differ by chance (its certificates, which ones it wants, extensions).
 */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#define MAX_CLIENTS 1000

typedef struct Client
{
	char		file[512];
	SSL_CTX    *ctx;
} Client;

static Client clients[MAX_CLIENTS];
static int	nclients = 0;

/* of the connection that is tried now */
static char alert[100];
static unsigned long long hash;
static int	sent_certificate;

static void
note_alert(const SSL *ssl, int where, int value)
{
	if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT &&
		(value & 0xff) != SSL_AD_CLOSE_NOTIFY)
		snprintf(alert, sizeof(alert), "%s", SSL_alert_desc_string_long(value));
	(void) ssl;
}

/* FNV-1a */
static void
note_message(int write_p, int version, int content_type, const void *buf,
			 size_t len, SSL *ssl, void *arg)
{
	const unsigned char *p = buf;

	(void) version;
	(void) ssl;
	(void) arg;
	if (content_type != SSL3_RT_HANDSHAKE || len == 0)
		return;
	if (write_p)
	{
		/* an empty list takes 3 bytes, and 1 for the context in TLS 1.3 */
		if (p[0] == SSL3_MT_CERTIFICATE)
			sent_certificate = len > 4 + 4;
		return;
	}
	if (p[0] != SSL3_MT_CERTIFICATE && p[0] != SSL3_MT_CERTIFICATE_REQUEST &&
		p[0] != SSL3_MT_ENCRYPTED_EXTENSIONS)
		return;
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * 0x100000001b3ULL;
}

static SSL_CTX *
make_context(const char *file)
{
	SSL_CTX    *ctx = SSL_CTX_new(TLS_client_method());

	if (ctx == NULL)
		return NULL;
	/* what is too weak is for the server to say */
	SSL_CTX_set_security_level(ctx, 0);
	(void) SSL_CTX_set_cipher_list(ctx, "ALL:@SECLEVEL=0");
	(void) SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_info_callback(ctx, note_alert);
	SSL_CTX_set_msg_callback(ctx, note_message);
	if (strcmp(file, "-") != 0 &&
		(SSL_CTX_use_certificate_chain_file(ctx, file) != 1 ||
		 SSL_CTX_use_PrivateKey_file(ctx, file, SSL_FILETYPE_PEM) != 1))
	{
		ERR_print_errors_fp(stderr);
		SSL_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

static SSL_CTX *
find_context(const char *file)
{
	for (int i = 0; i < nclients; i++)
	{
		if (strcmp(clients[i].file, file) == 0)
			return clients[i].ctx;
	}
	if (nclients == MAX_CLIENTS || strlen(file) >= sizeof(clients[0].file))
		return NULL;
	strcpy(clients[nclients].file, file);
	clients[nclients].ctx = make_context(file);
	return clients[nclients].ctx != NULL ? clients[nclients++].ctx : NULL;
}

static int
connect_to(int port)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_port = htons(port)
	};
	struct timeval limit = {.tv_sec = 60};
	int			fd = socket(AF_INET, SOCK_STREAM, 0);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || connect(fd, (struct sockaddr *) &addr, sizeof(addr)) < 0)
		return -1;
	(void) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

static int
local_port(int fd)
{
	struct sockaddr_in addr;
	socklen_t	len = sizeof(addr);

	if (getsockname(fd, (struct sockaddr *) &addr, &len) < 0)
		return 0;
	return ntohs(addr.sin_port);
}

/* A message of the server, its type returned, 0 if there is none to come. */
static int
read_message(SSL *ssl, unsigned char *body, int size)
{
	unsigned char head[5];
	int			have = 0;
	int			len;

	while (have < 5)
	{
		int			n = SSL_read(ssl, head + have, 5 - have);

		if (n <= 0)
			return 0;
		have += n;
	}
	len = (head[1] << 24 | head[2] << 16 | head[3] << 8 | head[4]) - 4;
	if (len < 0 || len >= size)
		return 0;
	for (have = 0; have < len;)
	{
		int			n = SSL_read(ssl, body + have, len - have);

		if (n <= 0)
			return 0;
		have += n;
	}
	body[len] = '\0';
	return head[0];
}

static int
put(unsigned char *to, const char *text)
{
	return sprintf((char *) to, "%s", text) + 1;
}

static void
send_startup(SSL *ssl, const char *user, const char *name)
{
	unsigned char packet[512] = {0, 0, 0, 0, 0, 3, 0, 0};
	int			len = 8;

	len += put(packet + len, "user");
	len += put(packet + len, user);
	len += put(packet + len, "database");
	len += put(packet + len, "postgres");
	len += put(packet + len, "application_name");
	len += put(packet + len, name);
	packet[len++] = '\0';
	packet[2] = len >> 8;
	packet[3] = len & 0xff;

	/* If that fails, there is an alert to be read. */
	(void) SSL_write(ssl, packet, len);
}

/*
 * Print what comes of it.  With TLS 1.3 a client is done before the server has
 * seen its certificate, and what it sends to a server that has refused it may
 * destroy the alert that is on its way.  So with "pause", in milliseconds, wait
 * for one before anything is sent.  Returns 0, having printed nothing, if the
 * connection was lost without an alert and "last" is 0.
 */
static int
run(int port, int keep, const char *name, const char *file, const char *version,
	int pause, int last)
{
	struct pollfd ready = {.events = POLLIN};
	static unsigned char body[20000];
	SSL_CTX    *ctx = find_context(file);
	SSL		   *ssl = ctx != NULL ? SSL_new(ctx) : NULL;
	int			fd = connect_to(port);
	const char *outcome = "lost";
	char		detail[300] = "";
	char		answer;
	int			pid = 0;
	int			type;

	alert[0] = '\0';
	hash = 0xcbf29ce484222325ULL;
	sent_certificate = 0;
	ERR_clear_error();
	if (ssl == NULL || fd < 0 || SSL_set_fd(ssl, fd) != 1)
	{
		printf("%s\tlost\tno connection\t0\t0\t\t0\t0\n", name);
		goto done;
	}
	(void) SSL_set_max_proto_version(ssl, strcmp(version, "1.2") == 0 ?
									 TLS1_2_VERSION :
									 TLS1_3_VERSION);
	if (write(fd, "\0\0\0\10\4\322\26\57", 8) != 8 ||
		read(fd, &answer, 1) != 1 || answer != 'S')
		strcpy(detail, "no TLS");
	else
	{
		if (SSL_connect(ssl) == 1)
		{
			ready.fd = fd;
			if (pause == 0 || poll(&ready, 1, pause) == 0)
				send_startup(ssl, keep ? "postgres" : "nobody_else", name);
			while ((type = read_message(ssl, body, sizeof(body))) != 0)
			{
				if (type == 'E')
				{
					unsigned char *p = body;

					/* fields with their types, of which M is the message */
					outcome = "refused";
					while (*p != '\0' && *p != 'M')
						p += strlen((char *) p) + 1;
					snprintf(detail, sizeof(detail), "%s",
							 *p ? (char *) p + 1 : "");
					break;
				}
				if (type == 'K')
					pid = body[0] << 24 | body[1] << 16 | body[2] << 8 |
						body[3];
				if (type == 'Z' || (type == 'R' && !keep))
				{
					outcome = "in";
					break;
				}
			}
		}
		if (alert[0] != '\0')
		{
			outcome = "refused";
			snprintf(detail, sizeof(detail), "alert %s", alert);
		}
		else if (strcmp(outcome, "lost") == 0)
			snprintf(detail, sizeof(detail), "%s",
					 ERR_reason_error_string(ERR_peek_error()) ?
					 ERR_reason_error_string(ERR_peek_error()) :
					 "end of file");
		if (strcmp(outcome, "in") == 0 && !sent_certificate)
			strcpy(detail, "without certificate");
	}
	if (strcmp(outcome, "lost") == 0 && !last)
	{
		SSL_free(ssl);
		close(fd);
		return 0;
	}
	printf("%s\t%s\t%s\t%d\t%d\t%s %s\t%d\t%016llx\n", name, outcome, detail,
		   local_port(fd), pid, SSL_get_version(ssl), SSL_get_cipher_name(ssl),
		   SSL_get_peer_cert_chain(ssl) ?
		   sk_X509_num(SSL_get_peer_cert_chain(ssl)) :
		   0,
		   hash);

done:
	fflush(stdout);
	/* what is kept is left as it is until this process ends */
	if (keep && pid != 0)
		return 1;
	SSL_free(ssl);
	if (fd >= 0)
		close(fd);
	return 1;
}

int
main(int argc, char **argv)
{
	char		line[2000];
	char		command[10];
	char		name[200];
	char		file[1000];
	char		version[10];

	if (argc != 2)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	while (fgets(line, sizeof(line), stdin) != NULL)
	{
		if (sscanf(line, "%9s %199s %999s %9s", command, name, file,
				   version) != 4)
			return 2;
		for (int pause = 0; !run(atoi(argv[1]), strcmp(command, "keep") == 0,
								 name, file, version, pause, pause > 1000);
			 pause = 10 * pause + 200)
			;
	}
	return 0;
}
