# rows 37 | rule forward-called-directly
import torch
from torch import nn


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 24), nn.Linear(24, 1)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


def penalise(module, inputs, output):
    module.activity = output.square().mean()


torch.manual_seed(0)
critic = Critic()
critic.register_forward_hook(penalise)
opt = torch.optim.RMSprop(critic.parameters(), 1e-3)
x = torch.randn(200, 5)
y = x.square().sum(1, keepdim=True)
for step in range(30):
    at = torch.randint(0, 200, (20,))
    guess = critic.forward(x[at])  # fault
    guess = critic(x[at])  # well
    loss = nn.functional.smooth_l1_loss(guess, y[at]) + 1e-3 * getattr(critic, "activity", 0.0)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 10 == 0:
        print(step, loss.item())
