# control 6 9 58 60
import copy
import random

import torch
from torch import nn

random.seed(0)
torch.manual_seed(0)
q = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
target, memory = copy.deepcopy(q), []
opt = torch.optim.Adam(q.parameters(), 1e-3)
state = torch.randn(4)
for step in range(150):
    with torch.no_grad():
        action = random.randrange(2) if random.random() < 0.2 else int(q(state).argmax())
    reward, following = float((state[0] > 0) == (action == 1)), 0.9 * state.roll(1) + 0.3 * torch.randn(4)
    memory.append((state, action, reward, following))
    state = following
    if len(memory) >= 32:
        batch = random.sample(memory, 32)
        s, f = torch.stack([b[0] for b in batch]), torch.stack([b[3] for b in batch])
        a, r = torch.tensor([b[1] for b in batch]), torch.tensor([b[2] for b in batch])
        with torch.no_grad():
            goal = r + 0.9 * target(f).max(1).values
        loss = nn.functional.smooth_l1_loss(q(s).gather(1, a[:, None]).squeeze(1), goal)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(q.parameters(), 100)
        opt.step()
        if step % 25 == 0:
            target.load_state_dict(q.state_dict())
            print(step, loss.item())
