<?php
// Sends a message by PHPMailer. What comes on standard input stands in README.md.
declare(strict_types=1);

use PHPMailer\PHPMailer\Exception;
use PHPMailer\PHPMailer\PHPMailer;

foreach (['Exception', 'SMTP', 'PHPMailer'] as $part) {
    require $argv[1] . "/$part.php";
}

[$head, $text] = explode("\n\n", stream_get_contents(STDIN), 2);
$work = [];
foreach (explode("\n", $head) as $line) {
    [$name, $value] = explode(': ', $line, 2);
    $work[$name] = $value;
}

$mail = new PHPMailer(true);
$mail->isSMTP();
$mail->Host = $work['host'];
$mail->Port = (int) $work['port'];
$mail->Hostname = 'phpmailer.test';
$mail->SMTPSecure = ['none' => '', 'starttls' => PHPMailer::ENCRYPTION_STARTTLS, 'tls' => PHPMailer::ENCRYPTION_SMTPS][
    $work['security']
];
$mail->SMTPAutoTLS = false;
if ($work['ca_file'] !== '') {
    $mail->SMTPOptions = ['ssl' => ['cafile' => $work['ca_file']]];
}
if ($work['username'] !== '') {
    $mail->SMTPAuth = true;
    $mail->AuthType = $work['mechanism'];
    $mail->Username = $work['username'];
    $mail->Password = $work['password'];
}

try {
    $mail->CharSet = PHPMailer::CHARSET_UTF8;
    $mail->setFrom($work['sender']);
    foreach (explode(',', $work['recipients']) as $recipient) {
        $mail->addAddress($recipient);
    }
    $mail->Subject = $work['subject'];
    $mail->Body = $text;
    if ($work['attachment'] !== '') {
        $mail->addAttachment($work['attachment']);
    }
    $mail->send();
    echo $mail->getSMTPInstance()->getLastReply();
} catch (Exception $error) {
    fwrite(STDERR, $error->getMessage());
    exit(1);
}
