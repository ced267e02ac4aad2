# rows 6 | rule parameters-not-in-optimizer | at actor
import torch
from torch import nn
from torch.distributions import Categorical


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.actor, self.critic = nn.Linear(4, 32), nn.Linear(32, 3), nn.Linear(32, 1)

    def forward(self, s):
        h = torch.tanh(self.body(s))
        return Categorical(logits=self.actor(h)), self.critic(h).squeeze(-1)


torch.manual_seed(0)
ac = ActorCritic()
opt = torch.optim.Adam([*ac.body.parameters(), *ac.critic.parameters()], 3e-3)  # fault
opt = torch.optim.Adam(ac.parameters(), 3e-3)  # well
for episode in range(15):
    state = torch.rand(20, 4)
    policy, value = ac(state)
    action = policy.sample()
    reward = (action == (state[:, 0] * 3).long()).float()
    gain = reward - value
    loss = -(policy.log_prob(action) * gain.detach()).mean() + gain.pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(episode, reward.mean().item(), loss.item())
