--
-- What certificates say: one's own client's, and any other
--
CREATE EXTENSION pg_tls;
SET timezone = 'UTC';

\set root '-----BEGIN CERTIFICATE-----\nMIIBVDCB+6ADAgECAgEBMAoGCCqGSM49BAMCMBIxEDAOBgNVBAMMB1Jvb3QgQ0Ew\nHhcNMjAwMTAxMDAwMDAwWhcNNDAxMjMxMjM1OTU5WjASMRAwDgYDVQQDDAdSb290\nIENBMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0uuEmM9kig+4ZRhpsP5q+jk0\nPddg86+QhKVCVKpnhuABjf4BY7HfDslPInP9kx11rkDtCm6sgVlP6thgMCl6vKNC\nMEAwDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8EBAMCAQYwHQYDVR0OBBYEFBOU\nQoUkDkppZpQx28h0/dOpiTKwMAoGCCqGSM49BAMCA0gAMEUCIQCvq1fi48s9yAvw\n67lcJ3ch4XjKL/DHXWRKrucRYFANtwIgBA9OKuM/thLv0MBgKzEjdanXoIcrenWf\nvYA59Capqs8=\n-----END CERTIFICATE-----'
\set int '-----BEGIN CERTIFICATE-----\nMIIBfjCCASSgAwIBAgIBAjAKBggqhkjOPQQDAjASMRAwDgYDVQQDDAdSb290IENB\nMB4XDTIwMDEwMTAwMDAwMFoXDTQwMTIzMTIzNTk1OVowGjEYMBYGA1UEAwwPSW50\nZXJtZWRpYXRlIENBMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEfiZcoyZxWq7g\nwSXe9EyqI1e6sVEJ4hOHW4kh80neuunK6bfBeIMqy4LeT9arAvAhdwUhe/YhlRmB\nuiPKDnnEm6NjMGEwDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8EBAMCAQYwHQYD\nVR0OBBYEFFNRlb7sRKyLBrj+2QQ/7GOnfi61MB8GA1UdIwQYMBaAFBOUQoUkDkpp\nZpQx28h0/dOpiTKwMAoGCCqGSM49BAMCA0gAMEUCIF/2oY6VGv72hV5ZPZOFbthA\ngv81gIdS2bvfRR/dnqLKAiEAkxf5WXvSVqeA1JvVd8xe0TErLynKW5k1a3qCnpgd\nMjM=\n-----END CERTIFICATE-----'
\set alice '-----BEGIN CERTIFICATE-----\nMIIBjzCCATSgAwIBAgIBAzAKBggqhkjOPQQDAjAaMRgwFgYDVQQDDA9JbnRlcm1l\nZGlhdGUgQ0EwHhcNMjAwMTAxMDAwMDAwWhcNMzAxMjMxMjM1OTU5WjAQMQ4wDAYD\nVQQDDAVhbGljZTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABCs28gD8YliSP67h\nq1k++qPPabnRykJZWyEho2ZoYLuMgnew6EhYJDwHbnwy+sPfcFarGTSsOY+hYL6E\nRFE0PbCjdTBzMAwGA1UdEwEB/wQCMAAwDgYDVR0PAQH/BAQDAgeAMBMGA1UdJQQM\nMAoGCCsGAQUFBwMCMB0GA1UdDgQWBBSN+s6+BOAUapuA4G1YMcQdOuBbMjAfBgNV\nHSMEGDAWgBRTUZW+7ESsiwa4/tkEP+xjp34utTAKBggqhkjOPQQDAgNJADBGAiEA\nrfGW+1aplEGlLdoqhZ2feopE0surJzCDVaEGf25dWCwCIQD/YQ7V0xhr7Xjq+qhC\nz2R0+kSQ84h2k//zP++o/taO0g==\n-----END CERTIFICATE-----'
\set int_crl '-----BEGIN X509 CRL-----\nMIHIMG8CAQEwCgYIKoZIzj0EAwIwGjEYMBYGA1UEAwwPSW50ZXJtZWRpYXRlIENB\nFw0yMDAxMDEwMDAwMDBaFw0yODEyMzEyMzU5NTlaMBQwEgIBBBcNMjYxMTIxMDc1\nOTExWqAOMAwwCgYDVR0UBAMCAQIwCgYIKoZIzj0EAwIDSQAwRgIhAIag8lM0pKCv\nW+dGfGn1UXGaPEofa6gHDZpMLX6b34dUAiEAoL2rPUX10JlxVAPxbLCy3eiEXYjr\np/fFZuk2b+1UfHg=\n-----END X509 CRL-----'
\set chain :alice '\n' :int '\n' :root

-- PEM, a row for each block
\x
SELECT * FROM pg_tls_certificate(:'alice');
\x
SELECT subject_dn, issuer_dn, serial, key_usage, is_ca, self_signed, version FROM pg_tls_certificate(:'chain');
SELECT subject_dn FROM pg_tls_certificate(E'Alice:\n' || :'alice' || E'\nand so on');

-- DER is the same
SELECT decode(regexp_replace(:'alice', '-----[A-Z ]+-----|\n', '', 'g'), 'base64') AS der \gset
SELECT (SELECT c FROM pg_tls_certificate(:'alice') c) = c AS same FROM pg_tls_certificate(:'der'::bytea) c;
SELECT fingerprint = encode(sha256(:'der'), 'hex') AS sha256 FROM pg_tls_certificate(:'der'::bytea);

-- nothing in, nothing out
SELECT count(*) FROM pg_tls_certificate(NULL::text);
SELECT count(*) FROM pg_tls_certificate(NULL::bytea);

-- what is wrong is never passed over
SELECT * FROM pg_tls_certificate('');
SELECT * FROM pg_tls_certificate('garbage');
SELECT * FROM pg_tls_certificate('\x3082');
SELECT * FROM pg_tls_certificate(left(:'alice', 300));
SELECT * FROM pg_tls_certificate(:'int_crl');
SELECT * FROM pg_tls_certificate(:'alice' || E'\n' || :'int_crl');
SELECT * FROM pg_tls_certificate(:'der'::bytea || '\x00');
SELECT * FROM pg_tls_certificate(repeat('x', 1048577)::bytea);
SELECT * FROM pg_tls_certificate(repeat('x', 16777217));
SELECT * FROM pg_tls_certificate(E'-----BEGIN CERTIFICATE-----\n' || repeat('A', 1600000) || E'\n-----END CERTIFICATE-----');
\set VERBOSITY sqlstate
SELECT * FROM pg_tls_certificate('');
SELECT * FROM pg_tls_certificate(''::bytea);
SELECT * FROM pg_tls_certificate('\x3000'::bytea);
SELECT * FROM pg_tls_certificate(convert_to(:'alice', 'UTF8'));
SELECT * FROM pg_tls_certificate(repeat('x', 1048577)::bytea);
SELECT pg_tls_client_dn_field('nonsense');
SELECT pg_tls_issuer_dn_field('');
SELECT pg_tls_client_dn_field(repeat('1.2', 100000));
\set VERBOSITY default
SELECT pg_tls_client_dn_field('nonsense');

SELECT bool_and(pg_tls_serial_hex(serial) = serial_hex) AS same FROM pg_tls_certificate(:'chain');
SELECT pg_tls_serial_hex(n) FROM unnest('{0, 1, 255, 256, -1, -65536, 147858430193507168255907647760208762990}'::numeric[]) n;
SELECT pg_tls_serial_hex(NULL) IS NULL AS none, length(pg_tls_serial_hex(repeat('9', 2467)::numeric));
SELECT pg_tls_serial_hex(1.5);
SELECT pg_tls_serial_hex('NaN');
SELECT pg_tls_serial_hex(repeat('9', 2468)::numeric);

-- one's own client, whether or not it has a certificate
SELECT (SELECT client_certificate FROM pg_tls_session()) = EXISTS (SELECT FROM pg_tls_client_chain()) AS same;
SELECT (SELECT client_certificate FROM pg_tls_session()) = EXISTS (SELECT FROM pg_tls_client_extensions()) AS same;
SELECT client_dn IS NOT DISTINCT FROM subject_dn AS subject,
       s.issuer_dn IS NOT DISTINCT FROM c.issuer_dn AS issuer,
       client_serial IS NOT DISTINCT FROM serial AS serial,
       client_fingerprint IS NOT DISTINCT FROM fingerprint AS fingerprint,
       client_cn IS NOT DISTINCT FROM pg_tls_client_dn_field('CN') AS cn
FROM pg_tls_session() s LEFT JOIN pg_tls_client_chain() c ON c.position = 0;
SELECT pg_tls_client_dn_field(NULL) IS NULL AS subject, pg_tls_issuer_dn_field(NULL) IS NULL AS issuer;

DROP EXTENSION pg_tls;
