//! Whoever is invited is told so, and may come in where signup is by invitation.

use tally_tests::smtp::Mail;

use super::*;
use crate::support::team::team;

#[tokio::test]
async fn an_invitation_is_mailed_and_opens_the_door() {
    let team = team().await;
    let mail = MailServer::start(Behaviour::default()).await;
    let server = mailing_by(&mail, &[("ALLOW_SIGNUP", "invited")]).await;
    let (client, guest) = (server.client(), address("guest"));
    let path = format!("/api/workspaces/{}/members", team.id);
    let invite = client.post(&path, &json!({ "email": guest, "role": "admin" }));
    let invitation = expect(201, invite.bearer_auth(&team.owner.token)).await.json();

    let told = mail.mail_to(&guest).await;
    let inviter = team.owner.user["name"].as_str().expect("a name");
    let id = invitation["id"].as_str().expect("an id");
    for text in [told.text(), told.html()] {
        assert!(text.contains("Team") && text.contains(inviter) && text.contains(id), "{text}");
    }
    asked(&client, &guest).await;
    let code = eventually("the code", async || mail.mails_to(&guest).iter().find_map(Mail::code)).await;
    let login = expect(200, verify(&client, &guest, &code)).await.json();
    let accept = client.request(reqwest::Method::POST, &format!("/api/invitations/{id}/accept"));
    let member = expect(200, accept.bearer_auth(login["token"].as_str().expect("a token"))).await.json();
    assert_eq!(member["role"], "admin");
}
