--
-- Verification of any certificate.  What is verified is as of a fixed moment, so
-- that nothing here ever expires.
--
CREATE EXTENSION pg_tls;
SET timezone = 'UTC';

-- Root CA, Intermediate CA, and two of its clients; a CRL of each CA, and that
-- of the latter revokes mallory
\set root '-----BEGIN CERTIFICATE-----\nMIIBVDCB+6ADAgECAgEBMAoGCCqGSM49BAMCMBIxEDAOBgNVBAMMB1Jvb3QgQ0Ew\nHhcNMjAwMTAxMDAwMDAwWhcNNDAxMjMxMjM1OTU5WjASMRAwDgYDVQQDDAdSb290\nIENBMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0uuEmM9kig+4ZRhpsP5q+jk0\nPddg86+QhKVCVKpnhuABjf4BY7HfDslPInP9kx11rkDtCm6sgVlP6thgMCl6vKNC\nMEAwDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8EBAMCAQYwHQYDVR0OBBYEFBOU\nQoUkDkppZpQx28h0/dOpiTKwMAoGCCqGSM49BAMCA0gAMEUCIQCvq1fi48s9yAvw\n67lcJ3ch4XjKL/DHXWRKrucRYFANtwIgBA9OKuM/thLv0MBgKzEjdanXoIcrenWf\nvYA59Capqs8=\n-----END CERTIFICATE-----'
\set int '-----BEGIN CERTIFICATE-----\nMIIBfjCCASSgAwIBAgIBAjAKBggqhkjOPQQDAjASMRAwDgYDVQQDDAdSb290IENB\nMB4XDTIwMDEwMTAwMDAwMFoXDTQwMTIzMTIzNTk1OVowGjEYMBYGA1UEAwwPSW50\nZXJtZWRpYXRlIENBMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEfiZcoyZxWq7g\nwSXe9EyqI1e6sVEJ4hOHW4kh80neuunK6bfBeIMqy4LeT9arAvAhdwUhe/YhlRmB\nuiPKDnnEm6NjMGEwDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8EBAMCAQYwHQYD\nVR0OBBYEFFNRlb7sRKyLBrj+2QQ/7GOnfi61MB8GA1UdIwQYMBaAFBOUQoUkDkpp\nZpQx28h0/dOpiTKwMAoGCCqGSM49BAMCA0gAMEUCIF/2oY6VGv72hV5ZPZOFbthA\ngv81gIdS2bvfRR/dnqLKAiEAkxf5WXvSVqeA1JvVd8xe0TErLynKW5k1a3qCnpgd\nMjM=\n-----END CERTIFICATE-----'
\set alice '-----BEGIN CERTIFICATE-----\nMIIBjzCCATSgAwIBAgIBAzAKBggqhkjOPQQDAjAaMRgwFgYDVQQDDA9JbnRlcm1l\nZGlhdGUgQ0EwHhcNMjAwMTAxMDAwMDAwWhcNMzAxMjMxMjM1OTU5WjAQMQ4wDAYD\nVQQDDAVhbGljZTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABCs28gD8YliSP67h\nq1k++qPPabnRykJZWyEho2ZoYLuMgnew6EhYJDwHbnwy+sPfcFarGTSsOY+hYL6E\nRFE0PbCjdTBzMAwGA1UdEwEB/wQCMAAwDgYDVR0PAQH/BAQDAgeAMBMGA1UdJQQM\nMAoGCCsGAQUFBwMCMB0GA1UdDgQWBBSN+s6+BOAUapuA4G1YMcQdOuBbMjAfBgNV\nHSMEGDAWgBRTUZW+7ESsiwa4/tkEP+xjp34utTAKBggqhkjOPQQDAgNJADBGAiEA\nrfGW+1aplEGlLdoqhZ2feopE0surJzCDVaEGf25dWCwCIQD/YQ7V0xhr7Xjq+qhC\nz2R0+kSQ84h2k//zP++o/taO0g==\n-----END CERTIFICATE-----'
\set mallory '-----BEGIN CERTIFICATE-----\nMIIBkDCCATagAwIBAgIBBDAKBggqhkjOPQQDAjAaMRgwFgYDVQQDDA9JbnRlcm1l\nZGlhdGUgQ0EwHhcNMjAwMTAxMDAwMDAwWhcNMzAxMjMxMjM1OTU5WjASMRAwDgYD\nVQQDDAdtYWxsb3J5MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0xtOjedyKx2c\n9+4hKmBPCb2a/vz1JGM0jtjDvieUX2N+PTQaGlQX1eyCEPuegfKJX8PWd8+WfISk\n/WWrvAmHX6N1MHMwDAYDVR0TAQH/BAIwADAOBgNVHQ8BAf8EBAMCB4AwEwYDVR0l\nBAwwCgYIKwYBBQUHAwIwHQYDVR0OBBYEFFWPdAnrluktiRPmq1088sue8wyEMB8G\nA1UdIwQYMBaAFFNRlb7sRKyLBrj+2QQ/7GOnfi61MAoGCCqGSM49BAMCA0gAMEUC\nIHglHgoo9hgGLOgj8RikoB5w2A3LvV/narbbavVHiFkfAiEApr+TU3bCdRx0s2dT\nw4SOLJjtt2/DXdXdldrx/V/rRJ4=\n-----END CERTIFICATE-----'
\set root_crl '-----BEGIN X509 CRL-----\nMIGpMFECAQEwCgYIKoZIzj0EAwIwEjEQMA4GA1UEAwwHUm9vdCBDQRcNMjAwMTAx\nMDAwMDAwWhcNMzAxMjMxMjM1OTU5WqAOMAwwCgYDVR0UBAMCAQEwCgYIKoZIzj0E\nAwIDSAAwRQIhAJVTbJEv+er6Y075u44/Iyql1lzdqn1gkKjD04QKT46kAiBgVhwZ\nsXHRosZtfepAy0rXxNHdCEm13PJJ0ZwosZ1lTg==\n-----END X509 CRL-----'
\set int_crl '-----BEGIN X509 CRL-----\nMIHIMG8CAQEwCgYIKoZIzj0EAwIwGjEYMBYGA1UEAwwPSW50ZXJtZWRpYXRlIENB\nFw0yMDAxMDEwMDAwMDBaFw0yODEyMzEyMzU5NTlaMBQwEgIBBBcNMjYxMTIxMDc1\nOTExWqAOMAwwCgYDVR0UBAMCAQIwCgYIKoZIzj0EAwIDSQAwRgIhAIag8lM0pKCv\nW+dGfGn1UXGaPEofa6gHDZpMLX6b34dUAiEAoL2rPUX10JlxVAPxbLCy3eiEXYjr\np/fFZuk2b+1UfHg=\n-----END X509 CRL-----'
\set crls :root_crl '\n' :int_crl
\set then '2026-01-01 00:00:00+00'

-- as the server does
SELECT * FROM pg_tls_verify(:'alice', :'int', :'root', :'crls', :'then');
SELECT * FROM pg_tls_verify(:'mallory', :'int', :'root', :'crls', :'then');
SELECT * FROM pg_tls_verify(:'mallory', :'int', :'root', at => :'then');
SELECT * FROM pg_tls_verify(:'alice', NULL, :'root', NULL, :'then');
SELECT * FROM pg_tls_verify(:'alice', :'int', at => :'then');
SELECT * FROM pg_tls_verify(:'alice', :'int', :'root', :'int_crl', :'then');
SELECT * FROM pg_tls_verify(:'alice', :'int', :'root', :'crls', '2029-01-01');
SELECT * FROM pg_tls_verify(:'alice', :'int', :'root', :'crls', '2031-01-01');
SELECT ok, chain_status, crl_status, error_code FROM pg_tls_verify(:'alice', :'int', :'root', NULL, '2019-01-01');

-- an intermediate is no root for the server, but a trust anchor by RFC 5280
SELECT * FROM pg_tls_verify(:'alice', NULL, :'int', NULL, :'then');
SELECT * FROM pg_tls_verify(:'alice', NULL, :'int', NULL, :'then', 'rfc5280');
SELECT * FROM pg_tls_verify(:'alice', NULL, :'int', :'int_crl', :'then', 'rfc5280');
SELECT * FROM pg_tls_verify(:'alice', :'int', :'root', :'crls', :'then', 'rfc5280');
SELECT * FROM pg_tls_verify(:'mallory', :'int', :'root', :'crls', :'then', 'rfc5280');
SELECT * FROM pg_tls_verify(:'alice', :'int', :'root', :'crls', '2029-01-01', 'rfc5280');

-- a CA is no client, but a path leads to it
SELECT ok, chain_status, error_code FROM pg_tls_verify(:'int', NULL, :'root', NULL, :'then');
SELECT * FROM pg_tls_verify(:'int', NULL, :'root', NULL, :'then', 'rfc5280');

-- a chain in one argument, explanations, and the line ends of others
\set chain :alice '\n' :int
SELECT ok FROM pg_tls_verify(:'chain', NULL, :'root', NULL, :'then');
SELECT ok FROM pg_tls_verify(E'subject=alice\n' || :'alice' || E'\n\nissuer:\n' || :'int' || E'\n-- \n', NULL,
                             replace(:'root', E'\n', E'\r\n'), NULL, :'then');

-- nothing in, nothing out
SELECT pg_tls_verify(NULL);
SELECT ok IS NULL FROM pg_tls_verify(NULL, :'int', :'root');

-- what is wrong is never passed over
SELECT pg_tls_verify('garbage');
SELECT pg_tls_verify('');
SELECT pg_tls_verify(:'alice', '', :'root');
SELECT pg_tls_verify(:'alice', :'int', '');
SELECT pg_tls_verify(:'alice', :'int', :'root', '');
SELECT pg_tls_verify(:'alice', :'int', :'int_crl');
SELECT pg_tls_verify(:'alice', :'int', :'root', :'root');
SELECT pg_tls_verify(left(:'alice', 300));
SELECT pg_tls_verify(right(:'alice', 300));
SELECT pg_tls_verify(:'alice', :'int', :'root', left(:'crls', -100));
SELECT pg_tls_verify(:'alice', :'int', :'root', left(:'root_crl', 200) || E'\n' || :'int_crl');
SELECT pg_tls_verify(:'alice', :'int', :'root' || :'int');
SELECT pg_tls_verify(:'alice', :'int', :'root' || E'\n ' || :'int');
SELECT pg_tls_verify(:'alice', :'int', replace(:'root', E'\n', ' '));
SELECT pg_tls_verify(:'alice', :'int', replace(:'root', '-----BEGIN', '----BEGIN'));
SELECT pg_tls_verify(:'alice', :'int', replace(:'root', 'END CERTIFICATE', 'END X509 CRL'));
SELECT pg_tls_verify(replace(:'alice', 'CERTIFICATE', 'PRIVATE KEY'));
SELECT pg_tls_verify(:'alice', mode => 'client');
SELECT pg_tls_verify(:'alice', mode => NULL);
SELECT pg_tls_verify(:'alice', at => 'infinity');

-- of a block that has its lines but not its contents, what OpenSSL says differs
DO $$
DECLARE
    block text;
    detail text;
BEGIN
    FOREACH block IN ARRAY ARRAY['', E'TUlJ\n', E'MIICATCCAaegAwIBAgIBAjAKBggqhkjOPQQDAjAS\n', E'????\n'] LOOP
        BEGIN
            PERFORM pg_tls_verify(E'-----BEGIN CERTIFICATE-----\n' || block || '-----END CERTIFICATE-----');
        EXCEPTION WHEN invalid_text_representation THEN
            GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
            RAISE NOTICE '%', regexp_replace(detail, ': [^:]*\.$', ': ...');
        END;
    END LOOP;
END $$;

-- everybody may
CREATE ROLE regress_verifier;
SET ROLE regress_verifier;
SELECT ok FROM pg_tls_verify(:'alice', :'int', :'root', :'crls', :'then');
RESET ROLE;
DROP ROLE regress_verifier;

DROP EXTENSION pg_tls;
