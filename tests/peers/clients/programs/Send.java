// Sends a message by JavaMail. What comes on standard input stands in README.md.

import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import javax.mail.Message;
import javax.mail.MessagingException;
import javax.mail.Session;
import javax.mail.Transport;
import javax.mail.internet.InternetAddress;
import javax.mail.internet.MimeBodyPart;
import javax.mail.internet.MimeMessage;
import javax.mail.internet.MimeMultipart;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocketFactory;
import javax.net.ssl.TrustManagerFactory;

public class Send {
    public static void main(String[] arguments) throws IOException, GeneralSecurityException {
        String input = new String(System.in.readAllBytes(), StandardCharsets.UTF_8);
        int end = input.indexOf("\n\n");
        Map<String, String> work = new HashMap<>();
        for (String line : input.substring(0, end).split("\n")) {
            int colon = line.indexOf(": ");
            work.put(line.substring(0, colon), line.substring(colon + 2));
        }
        try {
            Session session = Session.getInstance(properties(work));
            MimeMessage message = message(session, work, input.substring(end + 2));
            Transport transport = session.getTransport("smtp");
            boolean logsIn = !work.get("username").isEmpty();
            transport.connect(logsIn ? work.get("username") : null, logsIn ? work.get("password") : null);
            transport.sendMessage(message, message.getAllRecipients());
            transport.close();
        } catch (MessagingException error) {
            System.err.println(error);
            System.exit(1);
        }
    }

    private static Properties properties(Map<String, String> work) throws IOException, GeneralSecurityException {
        Properties properties = new Properties();
        properties.put("mail.smtp.host", work.get("host"));
        properties.put("mail.smtp.port", work.get("port"));
        properties.put("mail.smtp.localhost", "javamail.test");
        properties.put("mail.smtp.allow8bitmime", "true");
        properties.put("mail.smtp.from", work.get("sender"));
        properties.put("mail.smtp.starttls.required", String.valueOf(work.get("security").equals("starttls")));
        properties.put("mail.smtp.starttls.enable", String.valueOf(work.get("security").equals("starttls")));
        properties.put("mail.smtp.ssl.enable", String.valueOf(work.get("security").equals("tls")));
        properties.put("mail.smtp.ssl.checkserveridentity", "true");
        if (!work.get("ca_file").isEmpty()) {
            properties.put("mail.smtp.ssl.socketFactory", trusting(work.get("ca_file")));
        }
        properties.put("mail.smtp.auth", String.valueOf(!work.get("username").isEmpty()));
        if (!work.get("mechanism").isEmpty()) {
            properties.put("mail.smtp.auth.mechanisms", work.get("mechanism"));
        }
        return properties;
    }

    private static SSLSocketFactory trusting(String file) throws IOException, GeneralSecurityException {
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null, null);
        try (InputStream pem = new FileInputStream(file)) {
            trusted.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(trusted);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, managers.getTrustManagers(), null);
        return context.getSocketFactory();
    }

    private static MimeMessage message(Session session, Map<String, String> work, String text)
            throws IOException, MessagingException {
        MimeMessage message = new MimeMessage(session);
        message.setFrom(new InternetAddress(work.get("sender")));
        message.setRecipients(Message.RecipientType.TO, InternetAddress.parse(work.get("recipients")));
        message.setSubject(work.get("subject"), "UTF-8");
        if (work.get("attachment").isEmpty()) {
            message.setText(text, "UTF-8");
        } else {
            MimeBodyPart body = new MimeBodyPart();
            body.setText(text, "UTF-8");
            MimeBodyPart attached = new MimeBodyPart();
            attached.attachFile(work.get("attachment"));
            message.setContent(new MimeMultipart(body, attached));
        }
        message.saveChanges();
        return message;
    }
}
