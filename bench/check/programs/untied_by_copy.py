# rows 13 | rule tied-weights-apart | at embed head
import torch
from torch import nn


class LM(nn.Module):
    def __init__(self, vocab=40, width=24):
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.rnn = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, vocab, bias=False)
        nn.init.normal_(self.embed.weight, std=0.1)
        self.head.weight.data = self.embed.weight.data.clone()  # fault
        self.head.weight = self.embed.weight  # well

    def forward(self, ids):
        return self.head(self.rnn(self.embed(ids))[0])


torch.manual_seed(0)
lm = LM()
opt = torch.optim.Adam(lm.parameters(), 3e-3)
text = torch.randint(0, 40, (2000,)).cumsum(0) % 40
for step in range(15):
    start = torch.randint(0, 1900, (16,))
    ids = torch.stack([text[s : s + 20] for s in start.tolist()])
    logits = lm(ids[:, :-1])
    loss = nn.functional.cross_entropy(logits.reshape(-1, 40), ids[:, 1:].reshape(-1))
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(loss.item())
