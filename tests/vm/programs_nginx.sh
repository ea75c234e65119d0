# shellcheck shell=sh
# nginx for checks: HTTP on 8080, HTTPS (TLS 1.3 alone) on 8443, IPv4 and IPv6; files of $W/files by
# GET, into $W/files/upload by PUT, and by POST through a second connection of its own.

nginx_begin() {
	mkdir -p $W/files/upload
	chmod -R a+rwX $W
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
		-subj /CN=server -addext subjectAltName=IP:10.0.0.2,DNS:server \
		-keyout $W/key -out $W/certificate 2>/dev/null
	nginx_configuration >$W/nginx.conf
	serve tcp 8443 nginx -e $W/nginx.log -c $W/nginx.conf
}

nginx_configuration() {
	cat <<-END
		daemon off;
		pid $W/nginx.pid;
		error_log $W/nginx.log warn;
		worker_processes 2;
		events { worker_connections 512; }
		http {
			access_log off;
			sendfile on;
			client_max_body_size 100m;
			client_body_temp_path $W/body;
			proxy_temp_path $W/proxy;
			fastcgi_temp_path $W/fastcgi;
			uwsgi_temp_path $W/uwsgi;
			scgi_temp_path $W/scgi;
			ssl_certificate $W/certificate;
			ssl_certificate_key $W/key;
			ssl_protocols TLSv1.3;
			server {
				listen [::]:8080 ipv6only=off;
				listen [::]:8443 ssl http2 ipv6only=off;
				root $W/files;
				location /upload/ { dav_methods PUT; }
				location /post/ {
					proxy_method PUT;
					proxy_pass http://10.0.0.2:8080/upload/;
				}
			}
		}
	END
}
