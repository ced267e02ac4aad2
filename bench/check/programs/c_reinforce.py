# control 23 30 34 60
import torch
from torch import nn
from torch.distributions import Categorical

torch.manual_seed(0)
policy = nn.Sequential(nn.Linear(3, 24), nn.Dropout(0.1), nn.ReLU(), nn.Linear(24, 2))
opt = torch.optim.Adam(policy.parameters(), 1e-2)
average = 0.0
for episode in range(25):
    logs, rewards, state = [], [], torch.rand(3)
    for t in range(10):
        choice = Categorical(logits=policy(state.unsqueeze(0)))
        action = choice.sample()
        logs.append(choice.log_prob(action))
        rewards.append(1.0 if int(action) == int(state[0] > 0.5) else -1.0)
        state = torch.rand(3)
    average = 0.9 * average + 0.1 * sum(rewards)
    loss = -(torch.cat(logs) * (torch.tensor(rewards) - average / 10)).sum()
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(episode, sum(rewards), loss.item())
